"""One image from a file or stream to a file or stream: pipes between programs, and arrays in `.npy` files.

The output is encoded as a whole before its first byte is written, so a failure writes nothing.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple, Protocol, TypeVar

import numpy as np

from edgedenoise.atomic import check_writable, write_bytes
from edgedenoise.batch.results import BatchReport, FileResult, OpenedModel, StageSeconds
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.denoiser import load
from edgedenoise.errors import ImageError, OutputError, UsageError
from edgedenoise.imaging.arrays import (
    ARRAY_EXTENSION,
    ARRAY_FORMAT,
    decode_array,
    encode_array,
    image_of_array,
    is_array_file,
)
from edgedenoise.imaging.codecs import check_encodable, encode_image
from edgedenoise.imaging.files import EXTENSIONS, read_file
from edgedenoise.imaging.image import Frames, Image
from edgedenoise.imaging.layout import MAX_PIXELS
from edgedenoise.imaging.metadata.transfer import losses
from edgedenoise.imaging.readers.decoding import decode_image
from edgedenoise.imaging.readers.options import RawOutput, ReadOptions
from edgedenoise.imaging.saving import AS_READ, SaveOptions
from edgedenoise.progress import Progress, silent
from edgedenoise.shell import command_line
from edgedenoise.system_errors import is_dir

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from typing_extensions import Unpack

    from edgedenoise.denoiser import Denoiser
    from edgedenoise.settings import LoadOptions

    Pixels = Image | NDArray[Any]

T = TypeVar("T")
_log = logging.getLogger(__name__)
_FORMATS: Final = {**EXTENSIONS, ARRAY_EXTENSION: ARRAY_FORMAT}
FORMAT_NAMES: Final = tuple(extension.removeprefix(".") for extension in _FORMATS)
"""Names that `format_of_name` accepts."""
STANDARD_STREAM: Final = Path("-")
"""Name of the standard input or output on the command line."""


class ByteSink(Protocol):
    """What receives bytes: an unbuffered stream."""

    def write(self, data: Any, /) -> int | None:
        """Write bytes and return how many of them were taken."""


class Streams(NamedTuple):
    """Streams that `-` stands for."""

    source: BinaryIO
    """Stream that is read to its end."""
    target: ByteSink | None
    """Stream that receives the file; None where no output is `-`."""


def format_of_name(name: str) -> str:
    """Return the format that a name such as `jpeg`, `.JPG`, `tif` or `npy` stands for.

    Raises:
        UsageError: it stands for none.

    Example:
        >>> format_of_name("jpg"), format_of_name("npy")
        ('JPEG', 'NPY')
    """
    format_ = _FORMATS.get(f".{name.lower().removeprefix('.')}")
    if format_ is None:
        accepted = ", ".join(FORMAT_NAMES)
        raise UsageError(f"the format of the output is not known: expected one of {accepted}, got {name!r}")
    return format_


def is_single(inputs: Sequence[Path], out: Path) -> bool:
    """Return whether a run is for `denoise_single`: it names a standard stream or an `.npy` file."""
    return any(path == STANDARD_STREAM or _is_array(path) for path in (*inputs, out))


def _is_array(path: Path) -> bool:
    return path.suffix.lower() == ARRAY_EXTENSION


def denoise_single(
    inputs: Sequence[Path],
    out: Path,
    model: Path | str = DEFAULT,
    *,
    streams: Streams,
    format_: str | None = None,
    overwrite: bool = False,
    quality: int | None = None,
    compression: str | None = None,
    max_pixels: int = MAX_PIXELS,
    convert_cmyk: bool = False,
    raw: RawOutput = "srgb",
    progress: Progress = silent,
    **options: Unpack[LoadOptions],
) -> BatchReport:
    """Denoise one image. Arrays stay arrays of their shape and type, unless the output has another format.

    Args:
        inputs: one file, or `-`.
        out: a file, a folder for a file of the same name, or `-`.
        model: bundle or lone model file, or the name of a shipped bundle.
        streams: what `-` stands for.
        format_: name of the format to write to a stream; None for the format of the input.
        overwrite: replace a file that exists.
        quality: as for `denoise_files`, like the next four.
        compression: compression of TIFF, PNG or WebP.
        max_pixels: largest number of pixels that is accepted.
        convert_cmyk: convert CMYK images to sRGB.
        raw: curve of camera raw files.
        progress: called after each tile.
        **options: the options of `edgedenoise.load`.

    Returns:
        A report with one result.

    Raises:
        UsageError: the paths or the format are not accepted, or the compression is for another format.
        ImageError, DamagedImageError: the input is no image, or the output cannot hold it.
        OutputError: the file cannot be written, or exists.
        OSError: the stream cannot be written.
        EdgeDenoiseError: whatever `load` and `Denoiser` raise.
    """
    saving = SaveOptions(quality, compression)
    reading = ReadOptions(frames=True, max_pixels=max_pixels, convert_cmyk=convert_cmyk, raw=raw)
    source, target = _paths(inputs, out)
    wanted = _checked_format(source, target, format_, overwrite=overwrite)
    data, read_s = _timed(lambda: _read(source, streams))
    with ExitStack() as stack:
        done = denoise_data(
            data,
            lambda: stack.enter_context(load(model, **options)),
            name=_name_of(source),
            format_=wanted,
            reading=reading,
            saving=saving,
            other=None if target == STANDARD_STREAM else target.with_suffix(".tif"),
            on_tile=lambda tile, total: progress("tiles", tile, total),
        )
        _, write_s = _timed(lambda: _write(done.data, target, streams))
        known = done.result.seconds
        read_s, write_s = read_s + (known.read or 0.0), (known.write or 0.0) + write_s
        seconds = StageSeconds(read_s, known.denoise, write_s)
        result = replace(done.result, source=source, output=target, seconds=seconds)
        for sentence in result.notes:
            _log.warning("%s", sentence)
        return OpenedModel.by(done.denoiser).report([result], (), read_s + (known.denoise or 0.0) + write_s)


class DenoisedData(NamedTuple):
    """An image file that was denoised in memory."""

    data: bytes
    format: str
    """Format of `data`, for example `JPEG`."""
    result: FileResult
    """Its size, variant, noise and seconds; the paths in it are the name that was given."""
    denoiser: Denoiser
    """What denoised it."""


def denoise_data(
    data: bytes,
    opened: Callable[[], Denoiser],
    *,
    name: str,
    format_: str | None = None,
    reading: ReadOptions | None = None,
    saving: SaveOptions = AS_READ,
    other: Path | None = None,
    max_total_pixels: int | None = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> DenoisedData:
    """Denoise the bytes of an image file or `.npy` file.

    Args:
        data: the whole file.
        opened: returns the denoiser; called once the image has been decoded and the output is known to hold it.
        name: what messages call the image.
        format_: format of the result, such as `PNG`; None for that of the input.
        reading: what is accepted; None for the defaults.
        saving: how the result is encoded.
        other: file that a hint names where the format does not hold the image; None for a stream.
        max_total_pixels: pixels of all frames together; None for no limit.
        on_tile: called with (done, total) after each tile of each frame.

    Raises:
        UsageError: the compression is for another format.
        ImageError, DamagedImageError: the data are no image, or the format cannot hold it.
        EdgeDenoiseError: whatever `opened` and `Denoiser` raise.

    Example:
        >>> import edgedenoise
        >>> from pathlib import Path
        >>> from edgedenoise.batch.single import denoise_data
        >>> with edgedenoise.load("edge-tiny") as denoiser:
        ...     done = denoise_data(Path("photo.png").read_bytes(), lambda: denoiser, name="photo.png", format_="JPEG")
        >>> done.format, done.data[6:10]
        ('JPEG', b'JFIF')
    """
    pixels, read_s = _timed(lambda: _decoded(data, name, reading or ReadOptions(frames=True)))
    if isinstance(pixels, Image) and max_total_pixels is not None:
        count, frames = pixels.pixels[..., 0].size, 1 + len(pixels.following)
        if count * frames > max_total_pixels:
            raise ImageError(
                f"{name} has {frames} frames: expected {max_total_pixels} pixels in all, got {count * frames}"
            )
    format_ = format_ or _format_of(pixels)
    saving.check_for({format_})
    _check_fits(pixels, format_, other)
    denoiser = opened()
    clean, denoise_s = _timed(lambda: _denoised(denoiser, pixels, name, on_tile))
    encoded, write_s = _timed(lambda: _encoded(clean, format_, saving))
    height, width = pixels.pixels.shape[:2] if isinstance(pixels, Image) else pixels.shape[:2]
    result = FileResult(
        Path(name),
        Path(name),
        variant=denoiser.last_variant.name,
        float_reason=denoiser.last_float_reason,
        noise=denoiser.last_noise,
        notes=losses(clean.metadata, format_) if isinstance(clean, Image) else (),
        width=width,
        height=height,
        seconds=StageSeconds(read_s, denoise_s, write_s),
    )
    return DenoisedData(encoded, format_, result, denoiser)


def _paths(inputs: Sequence[Path], out: Path) -> tuple[Path, Path]:
    """Return the input and the output; raise where they are not one image and one file or stream."""
    if len(inputs) != 1 or is_dir(inputs[0]):
        found = "a folder" if len(inputs) == 1 else f"{len(inputs)} inputs"
        raise UsageError(
            f"standard streams and .npy files are denoised one at a time: expected one file or -, got {found}"
        )
    (source,) = inputs
    if out == STANDARD_STREAM or (out.suffix and not is_dir(out)):
        return source, out
    if source == STANDARD_STREAM:
        raise UsageError(
            f"an image from the standard input has no name: expected an output file or -, got {out}",
            hint=f"Name a file: {command_line('denoise', '-', '-o', out / 'denoised.png')}",
        )
    return source, out / source.name


def _checked_format(source: Path, target: Path, format_: str | None, *, overwrite: bool) -> str | None:
    """Return the format of the output as far as the options state it; check a file before the work."""
    if target == STANDARD_STREAM:
        return None if format_ is None else format_of_name(format_)
    if format_ is not None:
        raise UsageError("--format is for the standard output: expected -o -, because files have their extension")
    found = format_of_name(target.suffix)
    check_writable(target)
    if target.exists() and source != STANDARD_STREAM and source.exists() and target.samefile(source):
        raise UsageError(f"{target} would overwrite its own input", hint="Name another file after -o.")
    if target.exists() and not overwrite:
        raise OutputError(f"{target} exists already and was not replaced", hint="Add --overwrite to replace it.")
    return found


def _name_of(source: Path) -> str:
    return "the standard input" if source == STANDARD_STREAM else str(source)


def _read(source: Path, streams: Streams) -> bytes:
    return streams.source.read() if source == STANDARD_STREAM else read_file(source)


def _decoded(data: bytes, name: str, options: ReadOptions) -> Pixels:
    """Return the image, or the array of an `.npy` file; the content decides."""
    if is_array_file(data):
        return decode_array(data, name=name, max_pixels=options.max_pixels)
    return decode_image(data, name=name, options=options)


def _format_of(pixels: Pixels) -> str:
    """Return the format of an input as a format of outputs."""
    if not isinstance(pixels, Image):
        return ARRAY_FORMAT
    return "TIFF" if pixels.format == "RAW" else pixels.format


def _write(data: bytes, target: Path, streams: Streams) -> None:
    """Write the bytes of the image, a file as a whole or not at all."""
    if streams.target is None:
        write_bytes(target, data)
        return
    left = memoryview(data)
    while left:  # an unbuffered stream may take a part
        left = left[streams.target.write(left) or 0 :]


def _timed(step: Callable[[], T]) -> tuple[T, float]:
    """Return what a step gives, and its seconds."""
    start = time.perf_counter()
    return step(), time.perf_counter() - start


def _check_fits(pixels: Pixels, format_: str, file: Path | None) -> None:
    """Check that a format holds an image, before it is denoised; the hint names a file, or a format for a stream."""
    other = "Add --format tiff." if file is None else f"Write {file} instead."
    if format_ == ARRAY_FORMAT:
        if isinstance(pixels, Image) and pixels.following:
            count = len(pixels.following) + 1
            raise ImageError(f"the output cannot be an array: expected one frame, got {count}", hint=other)
        return
    image = pixels if isinstance(pixels, Image) else image_of_array(pixels)
    try:
        check_encodable(image, format_)
    except ValueError as error:
        raise ImageError(f"the output cannot be written as {format_}: {error}", hint=other) from error


def _denoised(denoiser: Denoiser, pixels: Pixels, name: str, on_tile: Callable[[int, int], None] | None) -> Pixels:
    """Denoise the first frame now, and those that follow it when they are encoded."""
    if isinstance(pixels, Image):
        clean = denoiser(replace(pixels, following=Frames()), on_tile=on_tile)
        return replace(clean, following=pixels.following.map(lambda frame: denoiser(frame, on_tile=on_tile)))
    try:
        return denoiser(pixels, on_tile=on_tile)
    except ImageError as error:
        raise ImageError(f"{name} is not an image: {error.message}", hint=error.hint) from error


def _encoded(clean: Pixels, format_: str, saving: SaveOptions) -> bytes:
    if format_ == ARRAY_FORMAT:
        return encode_array(clean.to_channels() if isinstance(clean, Image) else clean)
    return encode_image(clean if isinstance(clean, Image) else image_of_array(np.asarray(clean)), format_, saving)
