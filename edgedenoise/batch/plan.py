"""The plan of a run: which file becomes which output, and what can be refused before anything is denoised."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgedenoise.atomic import check_writable
from edgedenoise.errors import DatasetError, EdgeDenoiseError, ImageError, OutputError, UsageError
from edgedenoise.imaging.files import EXTENSIONS, check_layout_fits, format_for, output_name
from edgedenoise.imaging.folders import SUB_FOLDER, LeftOut, find_images
from edgedenoise.imaging.headers import check_pixel_count, read_layout
from edgedenoise.imaging.saving import SaveOptions
from edgedenoise.shell import command_line
from edgedenoise.system_errors import is_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from edgedenoise.imaging.layout import Layout

Existing = Literal["error", "overwrite", "skip"]
"""What to do with an output that exists already."""


@dataclass(frozen=True)
class FileJob:
    """One image of a run."""

    source: Path
    """File to read."""
    output: Path
    """File to write."""
    layout: Layout | None = None
    """What the header of the source states; None where it cannot be read."""
    error: EdgeDenoiseError | None = None
    """Reason why it is not denoised, found before anything is; None for a job to do."""


@dataclass(frozen=True)
class Plan:
    """The work of a run."""

    folder: Path
    """Folder of the outputs."""
    jobs: tuple[FileJob, ...]
    """Images in the order of the inputs, with those that are refused."""
    left_out: tuple[LeftOut, ...]
    """What the run does not read, each with the reason."""

    def check_writable(self) -> None:
        """Check that the output folder can be written, and make it, unless there is nothing to write.

        Raises:
            OutputError: it cannot be written.
        """
        names = (job.output.name for job in self.jobs if job.error is None)
        target = next((self.folder / name for name in names if not is_dir(self.folder / name)), None)
        if target is not None:
            check_writable(target)

    def check_saving(self, options: SaveOptions) -> None:
        """Check that each option of saving is for a format of the outputs.

        Raises:
            UsageError: it is for none.
        """
        formats = {EXTENSIONS.get(job.output.suffix.lower(), "") for job in self.jobs}
        given = {
            f"--quality {options.quality}": SaveOptions(options.quality).formats,
            f"--compression {options.compression}": SaveOptions(compression=options.compression).formats,
        }
        for option, expected in given.items():
            if expected and not expected & formats:
                raise UsageError(
                    f"{option} is for no output: expected outputs in {' or '.join(sorted(expected))}, "
                    f"got {', '.join(sorted(formats))}"
                )


@dataclass(frozen=True)
class _Source:
    path: Path
    place: Path
    """Path of the output in the output folder."""
    error: EdgeDenoiseError | None = None


def plan_run(inputs: Sequence[Path], out: Path, *, recursive: bool, existing: Existing, max_pixels: int) -> Plan:
    """Return the plan of a run; only headers are read.

    Args:
        inputs: image files, and folders of them.
        out: one output file for one input file, or a folder.
        recursive: also search sub-folders; the tree is kept in the output folder.
        existing: `error` reports an output that exists as a failure of its image, `overwrite` replaces it, `skip`
            leaves its image out.
        max_pixels: largest number of pixels of an image that is accepted.

    Raises:
        UsageError: there is nothing to do, two outputs have one name, or an output would overwrite its input.
        ImageError: no input exists.
        DatasetError: the only input is a folder that cannot be read.
    """
    left_out: list[LeftOut] = []
    sources = [source for item in inputs for source in _sources(item, out, recursive, left_out)]
    errors = [source.error for source in sources if source.error is not None]
    if errors and len(errors) == len(sources):
        raise errors[0]
    if not sources:
        raise _nothing_to_do(inputs, left_out)
    to_file = _is_one_file(inputs, out)
    pairs = [(source, out if to_file else out / source.place) for source in sources]
    _check_outputs([(source.path, output) for source, output in pairs if source.error is None])
    jobs: list[FileJob] = []
    for source, output in pairs:
        if existing == "skip" and source.error is None and _is_there(output):
            left_out.append(LeftOut(source.path, "its output exists already"))
        else:
            jobs.append(_checked(source, output, existing, max_pixels))
    return Plan(out.parent if to_file else out, tuple(jobs), tuple(left_out))


def _is_there(path: Path) -> bool:
    """Return whether a path exists; `Path.exists` raises where a name is too long."""
    return os.path.exists(path)  # noqa: PTH110


def _sources(item: Path, out: Path, recursive: bool, left_out: list[LeftOut]) -> Iterator[_Source]:
    """Yield the images that one input stands for; add what it leaves out to `left_out`."""
    if is_dir(item):
        try:
            found = find_images(item, recursive=recursive, apart_from=out)
        except DatasetError as error:
            yield _Source(item, Path(item.name), error)
        else:
            left_out += found.left_out
            yield from (_Source(path, output_name(path.relative_to(item))) for path in found.images)
    elif _is_there(item):
        yield _Source(item, output_name(Path(item.name)))
    elif os.path.islink(item):  # noqa: PTH114  (`Path.is_symlink` raises where a name is too long)
        reason = f"{item} is a broken link: expected one to an image, got {os.readlink(item)}"  # noqa: PTH115
        yield _Source(item, Path(item.name), ImageError(reason, hint="Name the image itself."))
    else:
        hint = f"Check the name: relative paths start at {Path.cwd()}."
        yield _Source(item, Path(item.name), ImageError(f"there is no file or folder {item}", hint=hint))


def _nothing_to_do(inputs: Sequence[Path], left_out: list[LeftOut]) -> UsageError:
    """Return the error for inputs without any image."""
    reasons = Counter(entry.reason for entry in left_out)
    found = "; ".join(f"{count} left out ({reason})" for reason, count in reasons.most_common())
    return UsageError(
        f"no images to denoise: expected files or folders with {', '.join(EXTENSIONS)}, "
        f"got {', '.join(map(str, inputs)) or 'an empty list'}" + (f": {found}" if found else ""),
        hint=_hint_for(inputs, left_out),
    )


def _hint_for(inputs: Sequence[Path], left_out: list[LeftOut]) -> str | None:
    """Return what would read the files of folders that hold no image."""
    if any(entry.reason == SUB_FOLDER for entry in left_out):
        return f"Read the sub-folders too: {command_line('denoise', '-r', *inputs, '-o', 'denoised')}"
    return None


def _is_one_file(inputs: Sequence[Path], out: Path) -> bool:
    """Return whether the output is one file; raise where it would have to hold several images."""
    to_file = len(inputs) == 1 and not is_dir(inputs[0]) and out.suffix != "" and not is_dir(out)
    if not to_file and ((_is_there(out) and not is_dir(out)) or (out.suffix.lower() in EXTENSIONS and not is_dir(out))):
        raise UsageError(
            f"the outputs do not fit into one file: expected a folder, got {out}",
            hint=f"Name a folder: {command_line('denoise', *inputs[:1], '-o', out.with_suffix(''))}",
        )
    return to_file


def _key(path: Path) -> str:
    """Return what two paths share that name one file: Windows and macOS do not distinguish A.png from a.png."""
    name = os.path.normcase(path)
    return unicodedata.normalize("NFC", name).casefold() if sys.platform == "darwin" else name


def _check_outputs(pairs: list[tuple[Path, Path]]) -> None:
    """Raise when two images have one output, or one would overwrite itself."""
    sources: dict[str, Path] = {}
    for source, output in pairs:
        key = _key(output)
        if key in sources and sources[key].samefile(source):
            raise UsageError(
                f"{source} is among the inputs twice: expected each image once, got {sources[key]} and {source}"
            )
        if key in sources:
            again = command_line("denoise", source, "-o", output.parent / source.parent.name)
            raise UsageError(
                f"{sources[key]} and {source} would both be written to {output}",
                hint=f"Denoise them into two folders: {again}",
            )
        if _is_there(output) and output.samefile(source):
            folder = source.resolve().parent
            again = command_line("denoise", source, "-o", folder.with_name(f"{folder.name}-denoised"))
            raise UsageError(f"{output} would overwrite its own input", hint=f"Write to another folder: {again}")
        sources[key] = source


def _checked(source: _Source, output: Path, existing: Existing, max_pixels: int) -> FileJob:
    """Return a job with the reason to refuse it, as far as names and headers show one."""
    layout = None if source.error is not None else read_layout(source.path)
    error = source.error
    try:
        if error is None:
            format_for(output)
            if layout is not None:
                check_pixel_count(layout, str(source.path), max_pixels)
                check_layout_fits(layout, output)
            if existing == "error" and _is_there(output) and not is_dir(output):
                error = _exists(source.path, output)
    except EdgeDenoiseError as found:
        error = found
    return FileJob(source.path, output, layout, error)


def _exists(source: Path, output: Path) -> OutputError:
    again = command_line("denoise", source, "-o", output, "--overwrite")
    return OutputError(f"{output} exists already and was not replaced", hint=f"Replace it: {again}")
