"""Denoise files and folders of images: each one is written whole, or reported and left out."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedenoise.atomic import check_writable
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.denoiser import load
from edgedenoise.errors import DeviceMemoryError, EdgeDenoiseError, ImageError, UsageError
from edgedenoise.imaging.files import EXTENSIONS, check_can_hold, read_image, write_image
from edgedenoise.imaging.folders import list_images
from edgedenoise.imaging.image import Frames
from edgedenoise.progress import Progress, silent
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Unpack

    from edgedenoise.denoiser import Denoiser, LoadOptions
    from edgedenoise.runtimes.base import EffectiveDevice


@dataclass(frozen=True)
class FileResult:
    """The result of one image."""

    source: Path
    """Image file that was read."""
    output: Path | None
    """File that was written; None when the image failed."""
    error: EdgeDenoiseError | None = None
    """Reason of the failure; None when the image was written."""


@dataclass(frozen=True)
class BatchReport:
    """The results of a batch, one per image."""

    variant: str
    """Name of the bundle's variant that ran."""
    effective: EffectiveDevice
    """Runtime and device that ran it."""
    files: tuple[FileResult, ...]
    """One result per image, in the order of the inputs."""

    @property
    def failures(self) -> tuple[FileResult, ...]:
        """Results of the images that could not be denoised."""
        return tuple(result for result in self.files if result.error is not None)


def denoise_files(
    inputs: Sequence[Path | str],
    out: Path | str,
    model: Path | str = DEFAULT,
    *,
    progress: Progress = silent,
    **options: Unpack[LoadOptions],
) -> BatchReport:
    """Denoise images from files to files.

    An image that cannot be read, denoised or written is reported, and the others are denoised. Nothing half-written
    is left.

    Args:
        inputs: image files, and folders of them.
        out: one output file for one input file, or a folder (made when missing) in which each file keeps its name.
        model: bundle or lone model file, or the name of a shipped bundle.
        progress: called after each tile and each image.
        **options: the options of `edgedenoise.load`.

    Returns:
        One result per image, and the variant and device that ran.

    Raises:
        UsageError: there is nothing to do, two outputs have one name, or an output would overwrite its input.
        ImageError: an input does not exist.
        BundleError, RuntimeUnavailableError, DeviceError, ParityError: as `edgedenoise.load`.

    Example:
        >>> import edgedenoise
        >>> report = edgedenoise.denoise_files(["photos"], "denoised", "edge-tiny")
        >>> len(report.files), report.failures
        (8, ())
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
    """Denoise one image; every reason to leave it out is found before its first tile where it can be."""

    def on_tile(done: int, total: int) -> None:
        progress("tiles", done, total)

    try:
        image = read_image(source, frames=True)
        check_can_hold(image, output)
        check_writable(output)
        progress("tiles", 0, 1)
        clean = denoiser(replace(image, following=Frames()), on_tile=on_tile)
        write_image(replace(clean, following=image.following.map(denoiser)), output)
    except EdgeDenoiseError as error:
        return FileResult(source, None, error)
    except MemoryError:
        again = command_line("denoise", source, "-o", output)
        hint = f"Close other programs and run: {again}"
        return FileResult(source, None, DeviceMemoryError(f"{source} does not fit into memory", hint=hint))
    return FileResult(source, output)


def _planned(inputs: list[Path], out: Path) -> list[tuple[Path, Path]]:
    """Return each image with its output."""
    sources: list[Path] = []
    for item in inputs:
        if item.is_dir():
            sources += list_images(item)
        elif item.is_file():
            sources.append(item)
        else:
            raise ImageError(
                f"there is no file or folder {item}", hint=f"Check the name: relative paths start at {Path.cwd()}."
            )
    if not sources:
        raise UsageError(
            f"no images to denoise: expected files or folders with {', '.join(EXTENSIONS)}, "
            f"got {', '.join(map(str, inputs)) or 'an empty list'}"
        )
    to_file = len(inputs) == 1 and inputs[0].is_file() and out.suffix != "" and not out.is_dir()
    if not to_file and (out.is_file() or (out.suffix.lower() in EXTENSIONS and not out.is_dir())):
        raise UsageError(
            f"the outputs do not fit into one file: expected a folder, got {out}",
            hint=f"Name a folder: {command_line('denoise', *inputs[:1], '-o', out.with_suffix(''))}",
        )
    pairs = [(source, out if to_file else out / source.name) for source in sources]
    _check_outputs(pairs)
    return pairs


def _check_outputs(pairs: list[tuple[Path, Path]]) -> None:
    """Raise when two images have one output, or one would overwrite itself."""
    sources: dict[str, Path] = {}
    for source, output in pairs:
        key = os.path.normcase(output)  # Windows does not distinguish A.png from a.png
        if key in sources:
            again = command_line("denoise", source, "-o", output.parent / source.parent.name)
            raise UsageError(
                f"{sources[key]} and {source} would both be written to {output}",
                hint=f"Denoise them into two folders: {again}",
            )
        if output.exists() and output.samefile(source):
            folder = source.resolve().parent
            again = command_line("denoise", source, "-o", folder.with_name(f"{folder.name}-denoised"))
            raise UsageError(f"{output} would overwrite its own input", hint=f"Write to another folder: {again}")
        sources[key] = source
