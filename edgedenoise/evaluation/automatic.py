"""Which variant `denoise` runs an image on when none is named: the images of one folder may need several."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.errors import EdgeDenoiseError
from edgedenoise.runtimes.choosing import choose
from edgedenoise.runtimes.opened import float_reason

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.evaluation.worker import OpenOptions


class AutomaticChoice:
    """The variant that fits this machine best, and the float variant for the images that INT8 is not for."""

    def __init__(self, bundle: Bundle, options: OpenOptions) -> None:
        self._chosen: Variant | None = None
        self._float: Variant | None = None
        try:
            self._chosen = choose(bundle, device=options.device, trust_engine=options.trust_engine).variant
            if self._chosen.precision == "int8":
                self._float = choose(
                    bundle, precision="fp32", device=options.device, trust_engine=options.trust_engine
                ).variant
        except EdgeDenoiseError:  # `denoise` runs no variant here, or has no float one and keeps INT8
            return

    def variant_for(self, bits: int, noise_lsb: float | None) -> str:
        """Return the name of the variant that runs an image; empty where none can.

        Args:
            bits: bits per sample.
            noise_lsb: estimated noise in 8-bit levels; None for networks that do not take the noise level.
        """
        if self._chosen is None:
            return ""
        needs_float = float_reason(self._chosen, bits, noise_lsb) is not None
        return self._float.name if needs_float and self._float is not None else self._chosen.name
