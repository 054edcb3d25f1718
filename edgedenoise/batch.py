"""Files and folders of images: each read, denoised and written whole, or reported and left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.denoiser import load
from edgedenoise.errors import DataError, EdgeDenoiseError, ImageError, OutputError, UsageError
from edgedenoise.imaging.files import EXTENSIONS, list_images, read_image, write_image
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedenoise.denoiser import Denoiser
    from edgedenoise.runtimes.base import EffectiveDevice


@dataclass(frozen=True)
class FileResult:
    """What became of one image."""

    source: Path
    output: Path | None
    """None when it failed."""
    error: EdgeDenoiseError | None = None


@dataclass(frozen=True)
class BatchReport:
    """What became of a batch."""

    variant: str
    effective: EffectiveDevice
    """What really ran."""
    files: tuple[FileResult, ...]

    @property
    def failures(self) -> tuple[FileResult, ...]:
        """The images that could not be denoised."""
        return tuple(result for result in self.files if result.error is not None)


def denoise_files(
    inputs: Sequence[Path | str],
    out: Path | str,
    model: Path | str = DEFAULT,
    *,
    progress: Progress = silent,
    **options: Any,
) -> BatchReport:
    """Denoise images from files to files.

    Args:
        inputs: image files and folders of them.
        out: one output file for one input file, or a folder (made when missing) in which each keeps its name.
        model: bundle or lone model file, or the name of a shipped one.
        progress: told after each tile and image.
        **options: those of `edgedenoise.load`.

    An image that cannot be read or written is reported and the others go on; nothing half-written is left.

    Raises:
        UsageError: nothing to do, two outputs of one name, or an output that would overwrite its input.
        ImageError: an input does not exist.
        BundleError, RuntimeUnavailableError, DeviceError, ParityError: as `edgedenoise.load`.
    """
    pairs = _planned([Path(item) for item in inputs], Path(out))
    results = []
    with load(model, **options) as denoiser:
        for done, (source, output) in enumerate(pairs):
            progress("denoise", done, len(pairs), source.name)
            results.append(_denoise_one(denoiser, source, output, progress))
        progress("denoise", len(pairs), len(pairs))
        return BatchReport(denoiser.variant.name, denoiser.effective, tuple(results))


def _denoise_one(denoiser: Denoiser, source: Path, output: Path, progress: Progress) -> FileResult:
    def on_tile(done: int, total: int) -> None:
        progress("tiles", done, total)

    try:
        photo = read_image(source)
        progress("tiles", 0, 1)
        write_image(denoiser(photo, on_tile=on_tile), output)
    except (DataError, OutputError) as error:  # this image's fault; anything else concerns them all
        return FileResult(source, None, error)
    return FileResult(source, output)


def _planned(inputs: list[Path], out: Path) -> list[tuple[Path, Path]]:
    sources: list[Path] = []
    for item in inputs:
        if item.is_dir():
            sources += list_images(item)
        elif item.is_file():
            sources.append(item)
        else:
            raise ImageError(f"there is no file or folder {item}")
    if not sources:
        raise UsageError(f"no images in {', '.join(map(str, inputs)) or 'an empty list of inputs'}")
    to_file = len(inputs) == 1 and inputs[0].is_file() and out.suffix != "" and not out.is_dir()
    if not to_file and (out.is_file() or (out.suffix.lower() in EXTENSIONS and not out.is_dir())):
        raise UsageError(f"{out} is one file, but there are several outputs", hint="name a folder with -o")
    pairs = [(source, out if to_file else out / source.name) for source in sources]
    names: dict[Path, Path] = {}
    for source, output in pairs:
        if output in names:
            raise UsageError(f"{names[output]} and {source} would both be written to {output}")
        if output.exists() and output.samefile(source):
            raise UsageError(f"{output} would overwrite its own input", hint="choose another output with -o")
        names[output] = source
    return pairs
