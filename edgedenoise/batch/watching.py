"""Watch a folder and denoise each image that arrives in it, once, when it is complete."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgedenoise.atomic import check_writable_folder
from edgedenoise.batch.arrivals import Arrivals
from edgedenoise.batch.command import RunCommand
from edgedenoise.batch.pipeline import ignore, run_jobs
from edgedenoise.batch.plan import plan_arrivals
from edgedenoise.batch.run import without_defaults
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.denoiser import load
from edgedenoise.errors import DatasetError, EdgeDenoiseError, OutputError, UsageError
from edgedenoise.extras import missing_package
from edgedenoise.imaging.folders import find_images
from edgedenoise.imaging.layout import MAX_PIXELS
from edgedenoise.imaging.readers.options import RawOutput, ReadOptions
from edgedenoise.imaging.saving import SaveOptions
from edgedenoise.progress import Progress, silent
from edgedenoise.shell import command_line
from edgedenoise.system_errors import is_dir, is_of_every_file

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator

    from typing_extensions import Unpack

    from edgedenoise.batch.results import FileResult
    from edgedenoise.settings import LoadOptions

_LOOK_S: Final = 1.0
"""Longest time between two looks at the files that are not complete yet, and at whether the folder is still there."""


def watch(
    folder: Path | str,
    out: Path | str,
    model: Path | str = DEFAULT,
    *,
    settle_s: float = 2.0,
    poll: bool = False,
    stop: threading.Event | None = None,
    quality: int | None = None,
    compression: str | None = None,
    max_pixels: int = MAX_PIXELS,
    convert_cmyk: bool = False,
    raw: RawOutput = "srgb",
    progress: Progress = silent,
    on_result: Callable[[FileResult], None] = ignore,
    **options: Unpack[LoadOptions],
) -> None:
    """Denoise the images of a folder and its sub-folders as they arrive, until `stop` is set or Ctrl-C is pressed.

    Images that are in the folder already are denoised first. An image is denoised when it is complete, and again when
    it has changed. An image whose output exists and is not older than the image is not denoised again, so a watch
    that is started again continues. An image that fails is reported, and tried again when it changes or when a new
    watch starts. What every further image would meet, such as a full disk, ends the watch with its error. The output
    folder has the same tree. Needs the `watch` extra.

    Args:
        folder: the folder to watch.
        out: folder of the outputs; it is made when it is missing.
        model: bundle or lone model file, or the name of a shipped bundle.
        settle_s: seconds for which the size and time of a complete file have not changed.
        poll: look through the folder again and again instead of waiting for events of the system, which network
            folders do not have.
        stop: event that ends the watch; None to wait for Ctrl-C.
        quality: quality of JPEG and WebP outputs; these five as for `denoise_files`.
        compression: compression of TIFF, PNG and WebP outputs.
        max_pixels: largest number of pixels of an image that is accepted.
        convert_cmyk: convert CMYK images to sRGB through their colour profile.
        raw: curve of camera raw files.
        progress: called after each tile and each image.
        on_result: called with the result of each image, once, as soon as the image is written or has failed.
        **options: the options of `edgedenoise.load`.

    Raises:
        UsageError: the outputs would be written to the watched folder, or a value is not accepted.
        DatasetError: the folder is missing, goes away, or cannot be watched.
        OutputError: the output folder cannot be written, or not any more.
        RuntimeUnavailableError: the `watch` extra is not installed.
        EdgeDenoiseError: whatever `load` raises.

    Example:
        >>> import threading, edgedenoise
        >>> stop, outputs = threading.Event(), []
        >>> def done(result):
        ...     outputs.append(result.output)
        ...     if len(outputs) == 8:
        ...         stop.set()
        >>> edgedenoise.watch("photos", "watched", "edge-tiny", settle_s=0.1, stop=stop, on_result=done)
        >>> len(outputs)
        8
    """
    folder, out = Path(folder), Path(out)
    _check(folder, out, settle_s)
    saving = SaveOptions(quality, compression)
    reading = ReadOptions(frames=True, max_pixels=max_pixels, convert_cmyk=convert_cmyk, raw=raw)
    given = {
        "model": model,
        "quality": quality,
        "compression": compression,
        "max_pixels": max_pixels,
        "convert_cmyk": convert_cmyk,
        "raw": raw,
        **options,
    }
    arrivals = Arrivals(folder, out, settle_s)
    command = RunCommand((folder,), out, without_defaults(given))
    check_writable_folder(out)
    ends: list[EdgeDenoiseError] = []

    def report(result: FileResult) -> None:
        on_result(result)
        if result.error is not None and not ends and _is_lasting(result.error, out):
            ends.append(_end_of(folder, result.error))
            raise ends[0]

    with load(model, **options) as denoiser:
        for changed in _changes(folder, settle_s, poll=poll, stop=stop):
            arrivals.notice(changed, time.monotonic())
            jobs = plan_arrivals(arrivals.complete(time.monotonic()), command, max_pixels=max_pixels)
            run_jobs(denoiser, jobs, saving=saving, reading=reading, progress=progress, on_result=report)


def _is_lasting(error: EdgeDenoiseError, out: Path) -> bool:
    """Return whether no further image can be written, for what the error of one reports."""
    if is_of_every_file(error):
        return True
    try:
        check_writable_folder(out)
    except OutputError:
        return True
    return False


def _end_of(folder: Path, error: EdgeDenoiseError) -> EdgeDenoiseError:
    """Return the error of an image as the one that ends the watch."""
    before = f"{error.hint.rstrip('.')}; then start" if error.hint else "Start"
    ended = type(error)(
        f"{folder} is not watched any more: {error.message}", hint=f"{before} the watch again, which continues."
    )
    ended.__cause__ = error.__cause__
    return ended


def _check(folder: Path, out: Path, settle_s: float) -> None:
    find_images(folder)
    if out.exists() and out.samefile(folder):
        raise UsageError(
            f"the outputs would be written to the watched folder {folder}: expected another folder, got {out}",
            hint=f"Name another folder: {command_line('watch', folder, folder.with_name(f'{folder.name}-denoised'))}",
        )
    if not settle_s >= 0:
        raise UsageError(f"the time to settle is not accepted: expected 0 seconds or more, got {settle_s}")


def _changes(folder: Path, settle_s: float, *, poll: bool, stop: threading.Event | None) -> Iterator[set[Path]]:
    """Yield what has changed: the whole folder first, and nothing after a while without changes."""
    try:
        import watchfiles
    except ModuleNotFoundError as error:
        raise (missing_package(error) or error) from error
    root = folder.resolve()  # as some systems report paths
    events = watchfiles.watch(
        root,
        watch_filter=None,
        stop_event=stop,
        rust_timeout=int(1000 * min(max(settle_s / 2, 0.05), _LOOK_S)),
        yield_on_timeout=True,
        force_polling=poll or None,  # None: as the environment of watchfiles has it
    )
    changed = {folder}  # when the first events are there the watch has begun, so no file is missed in between
    while True:
        try:
            changed |= {folder / Path(path).relative_to(root) for _, path in next(events)}
        except StopIteration:
            return
        except (OSError, RuntimeError) as error:  # such as: too many folders for the system
            raise DatasetError(
                f"{folder} cannot be watched: {error}", hint="Add --poll (in Python: poll=True)."
            ) from error
        if not is_dir(folder):
            raise DatasetError(f"{folder} cannot be watched any more: it is gone")
        yield changed
        changed = set()
