"""The plan of a run: which file becomes which output, and what can be refused before anything is denoised."""

from __future__ import annotations

import os
import stat
import sys
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from edgedenoise.atomic import check_writable
from edgedenoise.errors import DatasetError, EdgeDenoiseError, ImageError, OutputError, UsageError
from edgedenoise.imaging.files import EXTENSIONS, check_layout_fits, format_for, output_name
from edgedenoise.imaging.folders import SUB_FOLDER, LeftOut, find_images, is_video
from edgedenoise.imaging.headers import check_pixel_count, read_layout
from edgedenoise.shell import quoted
from edgedenoise.system_errors import is_dir
from edgedenoise.video.options import check_video_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from edgedenoise.batch.arrivals import Arrival
    from edgedenoise.batch.command import RunCommand
    from edgedenoise.imaging.layout import Layout
    from edgedenoise.imaging.saving import SaveOptions

Existing = Literal["error", "overwrite", "skip"]
"""What to do with an output that exists already."""
_NO_FILES: Final = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class FileJob:
    """One image of a run."""

    source: Path
    """File to read."""
    output: Path
    """File to write."""
    again: str
    """Command line that denoises this image alone, with the options of the run."""
    layout: Layout | None = None
    """What the header of the source states; None where it cannot be read."""
    error: EdgeDenoiseError | None = None
    """Reason why it is not denoised, found before anything is; None for a job to do."""

    @property
    def is_video(self) -> bool:
        """Whether it is a video."""
        return is_video(self.source)


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
        options.check_for({EXTENSIONS.get(job.output.suffix.lower(), "") for job in self.jobs})


@dataclass(frozen=True)
class _Source:
    path: Path
    output: Path
    error: EdgeDenoiseError | None = None


def plan_run(command: RunCommand, *, recursive: bool, existing: Existing, max_pixels: int) -> Plan:
    """Return the plan of a run; only headers are read.

    Args:
        command: the inputs, which are image files and folders of them, the output, which is one file for one input
            file, or a folder, and the options that hints repeat.
        recursive: also search sub-folders; the tree is kept in the output folder.
        existing: `error` reports an output that exists as a failure of its image, `overwrite` replaces it, `skip`
            leaves its image out.
        max_pixels: largest number of pixels of an image that is accepted.

    Raises:
        UsageError: there is nothing to do, several outputs do not fit into one file, or no image has an output that
            neither another image nor its own input has.
        ImageError: no input exists.
        DatasetError: the only input is a folder that cannot be read.
    """
    left_out: list[LeftOut] = []
    to_file = _is_one_file(command)
    found = [source for item in command.inputs for source in _sources(item, command.out, recursive, left_out)]
    if to_file:
        found = [replace(source, output=command.out) for source in found]
    sources = _with_outputs_of_their_own(found, command, left_out)
    errors = [source.error for source in sources if source.error is not None]
    if errors and len(errors) == len(sources):
        raise errors[0]
    if not sources:
        raise _nothing_to_do(command, left_out)
    jobs: list[FileJob] = []
    for source in sources:
        if existing == "skip" and source.error is None and _is_there(source.output):
            left_out.append(LeftOut(source.path, "its output exists already"))
        else:
            jobs.append(_checked(source, command, existing, max_pixels))
    return Plan(command.out.parent if to_file else command.out, tuple(jobs), tuple(left_out))


def plan_arrivals(arrivals: Iterable[Arrival], command: RunCommand, *, max_pixels: int) -> list[FileJob]:
    """Return the jobs of files that have arrived in a watched folder; outputs that exist are replaced."""
    return [
        _checked(_Source(arrival.path, arrival.output, arrival.error), command, "overwrite", max_pixels)
        for arrival in arrivals
    ]


def _is_there(path: Path) -> bool:
    """Return whether a path exists; `Path.exists` raises where a name is too long."""
    return os.path.exists(path)  # noqa: PTH110


def _sources(item: Path, out: Path, recursive: bool, left_out: list[LeftOut]) -> Iterator[_Source]:
    """Yield the images that one input stands for; add what it leaves out to `left_out`."""
    if not is_dir(item):
        yield _Source(item, out / output_name(Path(item.name)), _no_file(item))
        return
    try:
        found = find_images(item, recursive=recursive, apart_from=out)
    except DatasetError as error:
        yield _Source(item, out / item.name, error)
    else:
        left_out += found.left_out
        yield from (_Source(path, out / output_name(path.relative_to(item))) for path in found.images)


def _no_file(path: Path) -> ImageError | None:
    """Return the reason why an input is no file that can be read; None where it is one."""
    if os.path.islink(path) and not _is_there(path):  # noqa: PTH114  (`Path.is_symlink` raises where a name is too long)
        reason = f"{path} is a broken link: expected one to an image, got {os.readlink(path)}"  # noqa: PTH115
        return ImageError(reason, hint="Name the image itself.")
    if not _is_there(path):
        hint = f"Check the name: relative paths start at {Path.cwd()}."
        return ImageError(f"there is no file or folder {path}", hint=hint)
    mode = path.stat().st_mode
    kind = next((name for is_kind, name in _NO_FILES if is_kind(mode)), None)
    if kind is None:
        return None
    copy = f"Copy it to a file first: {quoted('cat', path)} > {quoted(f'copy{path.suffix}')}"
    return ImageError(
        f"{path} cannot be read as an image: expected a file or a folder, got {kind}",
        hint=copy if stat.S_ISFIFO(mode) else None,
    )


def _nothing_to_do(command: RunCommand, left_out: list[LeftOut]) -> UsageError:
    """Return the error for inputs without any image."""
    reasons = Counter(entry.reason for entry in left_out)
    found = "; ".join(f"{count} left out ({reason})" for reason, count in reasons.most_common())
    return UsageError(
        f"no images to denoise: expected files or folders with {', '.join(EXTENSIONS)}, "
        f"got {', '.join(map(str, command.inputs)) or 'an empty list'}" + (f": {found}" if found else ""),
        hint=f"Read the sub-folders too: {command.line('-r')}" if SUB_FOLDER in reasons else None,
    )


def _is_one_file(command: RunCommand) -> bool:
    """Return whether the output is one file; raise where it would have to hold several images."""
    inputs, out = command.inputs, command.out
    to_file = len(inputs) == 1 and not is_dir(inputs[0]) and out.suffix != "" and not is_dir(out)
    is_file_name = out.suffix.lower() in EXTENSIONS or is_video(out)
    if not to_file and not is_dir(out) and (_is_there(out) or is_file_name):
        raise UsageError(
            f"the outputs do not fit into one file: expected a folder, got {out}",
            hint=f"Name a folder: {command.line(out=out.with_suffix(''))}",
        )
    return to_file


def _key(path: Path) -> str:
    """Return what two paths share that name one file: Windows and macOS do not distinguish A.png from a.png."""
    name = os.path.normcase(path)
    return unicodedata.normalize("NFC", name).casefold() if sys.platform == "darwin" else name


def _with_outputs_of_their_own(
    sources: Sequence[_Source], command: RunCommand, left_out: list[LeftOut]
) -> list[_Source]:
    """Return sources with the reason to refuse those whose output is that of another one, or their own input.

    Of files with one output, the first that keeps its name has it. A file that is named twice is denoised once; the
    second one is added to `left_out`.
    """
    owners: dict[str, _Source] = {}
    for source in sorted(sources, key=lambda source: source.path.name != source.output.name):
        if source.error is None:
            owners.setdefault(_key(source.output), source)
    taken = set(owners)
    checked: list[_Source] = []
    for source in sources:
        owner = owners.get(_key(source.output), source)
        if source.error is not None:
            checked.append(source)
        elif owner is source:
            checked.append(replace(source, error=_onto_itself(source, command)))
        elif owner.path.samefile(source.path):
            left_out.append(LeftOut(source.path, "it is among the inputs twice"))
        else:
            again = command.line(inputs=[source.path], out=_free_name(source.output, taken))
            error = UsageError(
                f"{owner.path} and {source.path} would both be written to {source.output}, which is for {owner.path}",
                hint=f"Write {source.path} under another name: {again}",
            )
            checked.append(replace(source, error=error))
    return checked


def _free_name(output: Path, taken: set[str]) -> Path:
    """Return a name like `output` that no file and no other output has, and add it to `taken`."""
    names = (output.with_stem(f"{output.stem}-{number}") for number in count(2))
    free = next(name for name in names if _key(name) not in taken and not _is_there(name))
    taken.add(_key(free))
    return free


def _onto_itself(source: _Source, command: RunCommand) -> UsageError | None:
    """Return the reason to refuse an image whose output is the file that it is read from."""
    if not _is_there(source.output) or not source.output.samefile(source.path):
        return None
    folder = source.path.resolve().parent
    again = command.line(out=folder.with_name(f"{folder.name}-denoised"))
    return UsageError(f"{source.output} would overwrite its own input", hint=f"Write to another folder: {again}")


def _checked(source: _Source, command: RunCommand, existing: Existing, max_pixels: int) -> FileJob:
    """Return a job with the reason to refuse it, as far as names and headers show one."""
    video = is_video(source.path)
    layout = None if source.error is not None or video else read_layout(source.path)
    error = source.error
    try:
        if error is None:
            check_video_name(source.output) if video else format_for(source.output)
            if layout is not None:
                check_pixel_count(layout, str(source.path), max_pixels)
                check_layout_fits(layout, source.output, lambda out: command.line(inputs=[source.path], out=out))
            if existing == "error" and _is_there(source.output) and not is_dir(source.output):
                error = OutputError(
                    f"{source.output} exists already and was not replaced",
                    hint=f"Replace existing outputs: {command.line('--overwrite')}",
                )
    except EdgeDenoiseError as found:
        error = found
    return FileJob(source.path, source.output, command.line(inputs=[source.path], out=source.output), layout, error)
