"""Denoise files and folders of images: each one is written whole, or reported and left out."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from edgedenoise.batch.cluster import run_on_cluster
from edgedenoise.batch.command import RunCommand
from edgedenoise.batch.pipeline import ignore, run_jobs
from edgedenoise.batch.plan import Existing, plan_run
from edgedenoise.batch.results import BatchReport, OpenedModel
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.denoiser import load
from edgedenoise.errors import UsageError
from edgedenoise.imaging.layout import MAX_PIXELS
from edgedenoise.imaging.readers.options import RawOutput, ReadOptions
from edgedenoise.imaging.saving import SaveOptions
from edgedenoise.progress import Progress, silent
from edgedenoise.video.options import VideoOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from typing_extensions import Unpack

    from edgedenoise.batch.results import FileResult
    from edgedenoise.settings import LoadOptions


Engine = Literal["local", "ray"]
"""Where the images of a run are denoised."""


def denoise_files(
    inputs: Sequence[Path | str],
    out: Path | str,
    model: Path | str = DEFAULT,
    *,
    recursive: bool = False,
    existing: Existing = "error",
    quality: int | None = None,
    compression: str | None = None,
    max_pixels: int = MAX_PIXELS,
    convert_cmyk: bool = False,
    raw: RawOutput = "srgb",
    video: VideoOptions | None = None,
    engine: Engine = "local",
    progress: Progress = silent,
    on_result: Callable[[FileResult], None] = ignore,
    **options: Unpack[LoadOptions],
) -> BatchReport:
    """Denoise images from files to files.

    Names and headers of all images are checked before the first one is denoised. An image that cannot be read,
    denoised or written is reported, and the others are denoised. Nothing half-written is left. The next images are
    read and the last ones written while one is denoised. Outputs keep the time of their inputs.

    Args:
        inputs: image and video files, and folders of images.
        out: one output file for one input file, or a folder (made when missing) in which each file keeps its name.
        model: bundle or lone model file, or the name of a shipped bundle.
        recursive: also search the sub-folders of folders, and keep their tree in the output folder.
        existing: what to do with an output that exists: `error` reports it as a failure of its image, `overwrite`
            replaces it, `skip` leaves its image out.
        quality: quality of JPEG and WebP outputs, 1 to 100. Without it a file keeps the quantization tables or the
            quality of its input; outputs in another format are JPEG at 95 or WebP without loss.
        compression: `none`, `lzw` or `deflate` for TIFF outputs, `0` to `9` for PNG, `lossless` for WebP. Without it
            a file keeps that of its input.
        max_pixels: largest number of pixels of an image that is accepted.
        convert_cmyk: convert CMYK images to sRGB through their colour profile. Without it they are refused.
        raw: `srgb` or `linear`, the curve of camera raw files, which become 16-bit TIFF files.
        video: codec, quality and decoder of videos, which are denoised after all images; None for the defaults. Videos
            in folders are left out.
        engine: `local` for this process, or `ray` for the machines of a Ray cluster, one worker per device; it needs
            the `ray` extra.
        progress: called after each tile and each image.
        on_result: called with the result of each image, once, as soon as the image is written or has failed; in the
            order in which images are finished.
        **options: the options of `edgedenoise.load`.

    Returns:
        One result per image, what was left out, and the variant and device that ran.

    Raises:
        UsageError: there is nothing to do, every image would overwrite itself, the quality or compression is for no
            output, or the engine is not known.
        ImageError: no input exists.
        DatasetError: the only input is a folder that cannot be read.
        OutputError: the output folder cannot be written.
        BundleError, RuntimeUnavailableError, DeviceError, ParityError: as `edgedenoise.load`; with `ray`, when it
            fails on all nodes.

    Example:
        >>> import edgedenoise
        >>> report = edgedenoise.denoise_files(["photos"], "denoised", "edge-tiny")
        >>> report.counts
        Counts(denoised=8, failed=0, left_out=0)
    """
    if engine not in get_args(Engine):
        raise UsageError(f"the engine is not accepted: expected {' or '.join(get_args(Engine))}, got {engine!r}")
    saving = SaveOptions(quality, compression)
    reading = ReadOptions(frames=True, max_pixels=max_pixels, convert_cmyk=convert_cmyk, raw=raw)
    given = {
        "model": model,
        "recursive": recursive,
        "existing": existing,
        "quality": quality,
        "compression": compression,
        "max_pixels": max_pixels,
        "convert_cmyk": convert_cmyk,
        "raw": raw,
        **({} if video is None else asdict(video)),
        "engine": engine,
        **options,
    }
    command = RunCommand(tuple(map(Path, inputs)), Path(out), without_defaults(given))
    plan = plan_run(command, recursive=recursive, existing=existing, max_pixels=max_pixels)
    plan.check_saving(saving)
    if engine == "ray":
        if any(job.is_video for job in plan.jobs):
            raise UsageError(
                "videos are not denoised on a cluster: expected images, got a video",
                hint="Denoise the video without --engine ray.",
            )
        plan.check_writable()
        start = time.perf_counter()
        opened, results = run_on_cluster(
            plan.jobs, model, options, saving=saving, reading=reading, progress=progress, on_result=on_result
        )
        return opened.report(results, plan.left_out, time.perf_counter() - start)
    with load(model, **options) as denoiser:
        plan.check_writable()
        start = time.perf_counter()
        results = run_jobs(
            denoiser,
            plan.jobs,
            saving=saving,
            reading=reading,
            video=video,
            progress=progress,
            on_result=on_result,
        )
        seconds = time.perf_counter() - start
        return OpenedModel.by(denoiser).report(results, plan.left_out, seconds)


def without_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that differ from their defaults."""
    return {name: value for name, value in options.items() if str(value) != str(_defaults()[name])}


@cache
def _defaults() -> dict[str, Any]:
    """Return the default of each option of `denoise_files`."""
    parameters = {**signature(load).parameters, **signature(denoise_files).parameters}
    return {name: parameter.default for name, parameter in parameters.items()} | asdict(VideoOptions())
