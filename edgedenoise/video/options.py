"""How a video is read and written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

WRITABLE: Final = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts")
"""Extensions of the formats that are written; others are read."""
MOST_CRF: Final = 63
"""Largest value of `crf` that an encoder accepts; some accept less."""


@dataclass(frozen=True)
class VideoOptions:
    """How a video is read and written.

    Example:
        >>> VideoOptions(codec="hevc", crf=22).codec
        'hevc'
    """

    codec: str = "auto"
    """`auto` for the codec of the input, another codec such as `hevc`, or an encoder of FFmpeg such as `h264_nvenc`."""
    crf: int | None = None
    """Constant quality of the encoder, lower is better; None for one at which a loss is hard to see."""
    hwaccel: str | None = None
    """Device of FFmpeg that decodes, such as `cuda`; None for the CPU."""
    reuse: bool = False
    """Whether the output is reused where the image has not moved: for cameras that stand still."""

    def __post_init__(self) -> None:
        if self.crf is not None and not 0 <= self.crf <= MOST_CRF:
            raise UsageError(f"crf is {self.crf!r}; expected 0 to {MOST_CRF}")


def check_video_name(path: Path) -> None:
    """Check that the extension of an output is that of a video.

    Raises:
        UsageError: it is not.
    """
    if path.suffix.lower() not in WRITABLE:
        raise UsageError(
            f"{path} cannot hold a video: expected one of {', '.join(WRITABLE)}",
            hint=f"Write {path.with_suffix('.mp4')} instead." if path.name else None,
        )
