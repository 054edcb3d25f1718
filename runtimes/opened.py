"""The variant that was chosen for a machine, open, and the float variant that some images call for instead."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from edgedenoise.errors import IncompatibleError

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.runtimes.checked import CheckedSession

_log = logging.getLogger(__name__)


class OpenedVariants:
    """A variant with its session, and where INT8 was chosen unasked, the float variant for the images that need it.

    The float variant is opened for the first such image. Several threads may ask at once.
    """

    def __init__(
        self,
        variant: Variant,
        session: CheckedSession,
        open_float: Callable[[], tuple[Variant, CheckedSession]] | None = None,
    ) -> None:
        """Hold an open variant.

        Args:
            variant: the variant that was chosen.
            session: its session.
            open_float: opens the float variant; None where every image runs on the chosen one.
        """
        self.variant = variant
        self.session = session
        self._open_float = open_float
        self._float: tuple[Variant, CheckedSession] | None = None
        self._opening = threading.Lock()
        self._is_closed = False

    def for_image(self, bits: int, noise_lsb: float | None) -> tuple[Variant, CheckedSession]:
        """Return what runs an image.

        Args:
            bits: bits per sample.
            noise_lsb: noise to remove in 8-bit levels (RMS); None for unknown.

        Raises:
            EdgeDenoiseError: the float variant cannot be opened. After `close` the session raises an error when it is
                run.
        """
        reason = float_reason(self.variant, bits, noise_lsb)
        if reason is None or self._open_float is None:
            return self.variant, self.session
        with self._opening:
            if self._is_closed:
                return self.variant, self.session
            if self._float is None:
                try:
                    self._float = self._open_float()
                except IncompatibleError as error:
                    _log.info("%s run on %s: %s", reason, self.variant.name, error.message)
                    self._open_float = None
                    return self.variant, self.session
                _log.info("%s run on %s instead of %s", reason, self._float[0].name, self.variant.name)
            return self._float

    def close(self) -> None:
        """Close the sessions, and open none from now on; closing twice is allowed."""
        self.session.close()
        with self._opening:
            self._is_closed = True
            opened, self._float = self._float, None
        if opened is not None:
            opened[1].close()


def float_reason(variant: Variant, bits: int, noise_lsb: float | None) -> str | None:
    """Return what about an image calls for float instead of an INT8 variant; None where nothing does.

    Args:
        variant: the INT8 variant that was chosen.
        bits: bits per sample.
        noise_lsb: noise to remove in 8-bit levels (RMS); None for unknown.
    """
    if bits > 8:
        return "images of more than 8 bits"
    if noise_lsb is None or variant.loss is None or noise_lsb >= variant.least_noise_lsb:
        return None
    return f"images with less noise than {variant.least_noise_lsb:g} LSB"
