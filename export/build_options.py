"""Check what a builder is asked for: the shapes of its input and the backend's own options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeVar, get_args, get_origin

import msgspec

from edgedenoise.bundles.manifest import InputShapes
from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from edgedenoise.imaging.tiling import Tiling
    from edgedenoise.runtimes.job import BuildOptions

    Own = TypeVar("Own", bound=msgspec.Struct)

DEFAULT_TILE_PX = 512


def input_shapes(options: BuildOptions, tiling: Tiling) -> InputShapes:
    """Return the inputs that the built file accepts.

    Args:
        options: what was asked for.
        tiling: what the network needs: each side holds two margins and is a multiple of `multiple_of`.

    Raises:
        UsageError: two kinds of shapes are asked for, or a side does not fit the network.
    """
    if (options.tile is not None) + bool(options.tiles) + (options.tile_range is not None) > 1:
        raise UsageError("several kinds of shapes were given; expected one of --tile, --tiles, --tile-range")
    if options.tile_range is not None:
        least, best, most = options.tile_range
        if not least <= best <= most:
            raise UsageError(
                f"the range of tiles is out of order; expected LEAST:BEST:MOST, none larger than the next, got"
                f" {least}:{best}:{most}"
            )
        shapes = InputShapes("ranged", [least, best, most])
    elif options.tiles:
        shapes = InputShapes("enumerated", sorted(set(options.tiles)))
    else:
        shapes = InputShapes("fixed", [DEFAULT_TILE_PX if options.tile is None else options.tile])
    step, margin = tiling.multiple_of, tiling.margin_px
    for side in shapes.sides_px:
        if side % step or side < 2 * margin + step:
            raise UsageError(
                f"the tile does not fit the network; expected a multiple of {step}, at least {2 * margin + step} (a"
                f" margin of {margin} on each side is context and is cut off), got {side} pixels"
            )
    return shapes


def backend_options(kind: type[Own], options: BuildOptions, target: str) -> Own:
    """Return the backend's own options as its struct.

    Args:
        kind: a frozen `msgspec.Struct` with `forbid_unknown_fields` and a default for every field.
        options: what was asked for; values are texts, as from a command line.
        target: for the message.

    Raises:
        UsageError: a name or a value is not accepted; the message lists those that are.
    """
    try:
        return msgspec.convert(dict(options.more), kind, strict=False)
    except msgspec.ValidationError as error:
        accepted = ", ".join(f"{field.name} ({_kind_of(field)})" for field in msgspec.structs.fields(kind)) or "none"
        raise UsageError(f"an --option for {target} is not accepted: {error}; expected {accepted}") from None


def _kind_of(one: msgspec.structs.FieldInfo) -> str:
    default = one.default if one.default is not msgspec.NODEFAULT else "none"
    words = f"default {str(default).lower() if isinstance(default, bool) else default}"
    return f"{' | '.join(get_args(one.type))}; {words}" if get_origin(one.type) is Literal else words
