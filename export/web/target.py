"""Options of the target `web`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgedenoise.exporting.build_options import backend_options

if TYPE_CHECKING:
    from edgedenoise.runtimes.job import BuildOptions


class WebOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `--option` accepts for `--target web`."""

    single_file: bool = False
    """Whether one HTML file is written that needs neither a server nor a network."""

    @classmethod
    def of(cls, options: BuildOptions) -> WebOptions:
        """Return the options that were given.

        Raises:
            UsageError: a name or a value is not accepted.
        """
        return backend_options(cls, options, "web")
