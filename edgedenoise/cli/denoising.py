"""Options that all commands share which denoise images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from edgedenoise.cli.common import DEVICE, THREADS, TrustEngine
from edgedenoise.errors import UsageError
from edgedenoise.imaging.layout import MAX_PIXELS

if TYPE_CHECKING:
    from edgedenoise.settings import LoadOptions

Model = Annotated[
    Path,
    typer.Option("--model", "-m", help="Bundle, model file, or a shipped bundle: edge, edge-tiny, edge-level."),
]
Codec = Annotated[
    str,
    typer.Option(help="Videos: auto (that of the input), h264, hevc, ..., or an encoder of FFmpeg such as h264_nvenc."),
]
Crf = Annotated[
    int | None, typer.Option(min=0, max=63, help="Videos: constant quality, lower is better. Default: hardly any loss.")
]
Hwaccel = Annotated[str | None, typer.Option(help="Videos: device that decodes, such as cuda or vaapi. Default: CPU.")]
Reuse = Annotated[
    bool, typer.Option("--reuse", help="Reuse the output where the image has not moved: for cameras that stand still.")
]


@dataclass(frozen=True)
class Loading:
    """Options of `edgedenoise.load`."""

    runtime: Annotated[str, typer.Option(help="auto, or a backend that `edgedenoise doctor` lists.")] = "auto"
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16, int8 or w8a16.")] = "auto"
    device: Annotated[str, typer.Option(help=DEVICE)] = "auto"
    tile: Annotated[str, typer.Option(help="auto, a side in pixels, or 0 for the whole image.")] = "auto"
    strength: Annotated[
        float, typer.Option(help="How much noise to remove: 0 to 1, or to 2 for networks that take the noise level.")
    ] = 1.0
    noise: Annotated[
        float | None,
        typer.Option(help="Noise in 8-bit levels, for networks that take the noise level; estimated unless given."),
    ] = None
    threads: Annotated[int | None, typer.Option(help=THREADS)] = None
    max_memory: Annotated[
        str | None, typer.Option(help="Memory that the process may take, such as 1.5GB; tiles are chosen to fit.")
    ] = None
    trust_engine: TrustEngine = False

    def options(self) -> LoadOptions:
        """Return the options under their names in Python.

        Raises:
            UsageError: the tile or the memory is no size.
        """
        return {
            "runtime": self.runtime,
            "precision": cast("Any", self.precision),  # `load` checks it
            "device": self.device,
            "tile": tile_side(self.tile),
            "strength": self.strength,
            "noise": self.noise,
            "threads": self.threads,
            "max_memory": memory_bytes(self.max_memory),
            "trust_engine": self.trust_engine,
        }


@dataclass(frozen=True)
class Files:
    """Options of image files, by their names in Python."""

    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="Quality of JPEG and WebP. Default: that of the input.")
    ] = None
    compression: Annotated[
        str | None,
        typer.Option(help="none, lzw or deflate (TIFF), 0 to 9 (PNG), lossless (WebP). Default: that of the input."),
    ] = None
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Largest number of pixels of an image; larger ones are refused.")
    ] = MAX_PIXELS
    convert_cmyk: Annotated[
        bool, typer.Option("--convert-cmyk", help="Convert CMYK to sRGB through its colour profile.")
    ] = False
    raw: Annotated[str, typer.Option(help="Curve of camera raw files: srgb or linear.")] = "srgb"


_BYTES = re.compile(r"(\d+(?:\.\d*)?) ?([kmgt]?)b?", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def tile_side(text: str) -> int | Literal["auto"]:
    """Return the value of `--tile`.

    Raises:
        UsageError: it is neither `auto` nor a number.
    """
    if text == "auto":
        return "auto"
    if not text.isdecimal():
        raise UsageError(f"--tile is not accepted: expected auto, 0 (whole image) or a side in pixels, got {text!r}")
    return int(text)


def memory_bytes(text: str | None) -> int | None:
    """Return the value of `--max-memory` in bytes.

    Raises:
        UsageError: it is no size.

    Example:
        >>> memory_bytes("1.5GB"), memory_bytes("800M"), memory_bytes("2000000")
        (1500000000, 800000000, 2000000)
    """
    if text is None:
        return None
    match = _BYTES.fullmatch(text.strip())
    size = float(match[1]) * _UNITS[match[2].upper()] if match else 0.0
    if not 1 <= size < 1 << 60:
        raise UsageError(f"--max-memory is not accepted: expected a size such as 1.5GB or 800MB, got {text!r}")
    return int(size)
