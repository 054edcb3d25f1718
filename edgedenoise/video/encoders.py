"""Choose the encoder of a video: the codec of the input, or the one that the user named, in software or hardware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edgedenoise.errors import UsageError
from edgedenoise.video.frames import has_alpha

if TYPE_CHECKING:
    from av.container import OutputContainer

    from edgedenoise.video.reader import VideoLayout

SOFTWARE: Final = {
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
    "prores": "prores_ks",
    "ffv1": "ffv1",
    "mjpeg": "mjpeg",
    "mpeg4": "mpeg4",
    "mpeg2video": "mpeg2video",
}
"""Codec -> encoder on the CPU."""
DEFAULT_CRF: Final = {"libx264": 18, "libx265": 20, "libsvtav1": 24, "libvpx-vp9": 24, "libvpx": 10}
"""Encoder -> quality at which a difference from its input is hard to see."""
_QUALITY_OPTIONS: Final = {"nvenc": "cq", "qsv": "global_quality", "vaapi": "qp", "amf": "qp_i"}
"""End of the name of a hardware encoder -> its option for constant quality."""


_TRANSPORT_STREAM: Final = frozenset({"h264", "hevc", "mpeg2video", "aac", "ac3", "mp2", "mp3", "dvb_subtitle"})
"""Codecs that MPEG transport streams hold, of which FFmpeg has no list."""


@dataclass(frozen=True)
class Encoder:
    """An encoder of FFmpeg and its options."""

    name: str
    """FFmpeg's name, such as `libx264` or `h264_nvenc`."""
    pixel_format: str
    """The pixel format of the input, or the nearest one that the encoder takes."""
    options: dict[str, str]
    bit_rate: int | None
    """Bits per second, for encoders without constant quality; None for the others."""


def holds(container: OutputContainer, codec: str) -> bool:
    """Return whether a container holds a codec, by FFmpeg's canonical name."""
    if container.format.name == "mpegts":
        return codec in _TRANSPORT_STREAM
    return codec in container.supported_codecs


def choose_encoder(
    layout: VideoLayout, container: OutputContainer, *, codec: str = "auto", crf: int | None = None
) -> Encoder:
    """Return the encoder of an output.

    Args:
        layout: the input.
        container: the output.
        codec: `auto` for the codec of the input, another codec such as `hevc`, or an encoder of FFmpeg such as
            `h264_nvenc`. A named encoder never falls back to another one.
        crf: constant quality, lower is better; None for a quality at which a loss is hard to see.

    Raises:
        UsageError: there is no such encoder, or it has no constant quality.
    """
    import av

    if codec == "auto":
        wanted = (layout.codec, "h264", container.default_video_codec)
        codec = next((one for one in wanted if one in SOFTWARE and holds(container, one)), wanted[-1])
    name = SOFTWARE.get(codec, codec)
    try:
        encoder = av.Codec(name, "w")
    except (av.FFmpegError, ValueError):
        known = ", ".join(sorted(SOFTWARE))
        raise UsageError(
            f"the codec {codec!r} is not accepted: expected auto, {known}, or an encoder of FFmpeg",
            hint='List the encoders: python -c "import av; print(sorted(av.codecs_available))"',
        ) from None
    if encoder.type != "video" or not holds(container, encoder.canonical_name):
        raise UsageError(
            f"the output cannot hold the codec {codec}: expected a video codec of this format, such as"
            f" {container.default_video_codec}",
            hint="Choose another extension: .mkv holds every codec.",
        )
    options, bit_rate = _quality(name, layout, crf)
    return Encoder(name, _pixel_format(encoder, layout), options, bit_rate)


def _quality(name: str, layout: VideoLayout, crf: int | None) -> tuple[dict[str, str], int | None]:
    """Return the options of an encoder for a quality, and the bit rate for those without one."""
    if name in DEFAULT_CRF:
        options = {"crf": str(DEFAULT_CRF[name] if crf is None else crf)}
        if name == "libx265":
            options["x265-params"] = "log-level=error"
        return options, 0 if name.startswith("libvpx") else None
    hardware = _QUALITY_OPTIONS.get(name.rpartition("_")[2])
    if crf is not None:
        if hardware is None:
            raise UsageError(f"--crf {crf} is not for {name}, which has no constant quality: expected no --crf")
        return {hardware: str(crf)}, None
    if name in ("ffv1", "prores_ks"):
        return {}, None
    return {}, layout.bit_rate or 4 * layout.width * layout.height


def _pixel_format(encoder: Any, layout: VideoLayout) -> str:
    """Return the pixel format of the input, or the nearest one that the encoder takes."""
    from av import VideoFormat
    from av.codec.codec import find_best_pix_fmt_of_list

    formats = list(encoder.video_formats or ())
    if has_alpha(VideoFormat(layout.pixel_format)):
        formats = [one for one in formats if has_alpha(one)] or formats
    accepted = [one.name for one in formats]
    wanted = layout.pixel_format.replace("yuvj", "yuv")  # the range is a property of its own
    if not accepted or wanted in accepted:
        return wanted
    if layout.pixel_format in accepted:
        return layout.pixel_format
    best, _ = find_best_pix_fmt_of_list(accepted, wanted)
    return best.name if best is not None else accepted[0]
