"""`edgedenoise train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command


@cli_command
def command(
    output: Output,
    data: Annotated[Path | None, typer.Option(help="Folder of noisy images.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run: checkpoints, log, previews.")] = None,
    network: Annotated[str | None, typer.Option(help="cbsn-24x4 or another size, edge-tiny, edge, edge-plus.")] = None,
    objective: Annotated[
        str | None, typer.Option(help="What a step minimises: cbsn, sdap, distill, supervised or qat.")
    ] = None,
    clean: Annotated[
        Path | None, typer.Option(help="Clean images, for supervised and qat; ground truth for distill.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="Run that distill learns from.")] = None,
    init: Annotated[Path | None, typer.Option(help="Run or bundle whose weights to begin with.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the run; schedules scale with it.")] = None,
    hours: Annotated[float | None, typer.Option(help="Length of the run instead: steps are measured here.")] = None,
    patch: Annotated[int | None, typer.Option(help="Side of a training patch in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Patches per step, over all processes.")] = None,
    blind_sampler: Annotated[
        str | None, typer.Option(help="How the blind loss takes images apart: lattice or permuted.")
    ] = None,
    val_clean: Annotated[Path | None, typer.Option(help="Ground truth of the images, for PSNR and SSIM.")] = None,
    val_noisy: Annotated[Path | None, typer.Option(help="What --val-clean belongs to; default: --data.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    config: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="cbsn-official, ..., or a TOML file; options here win.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting of the run; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its own settings.")
    ] = False,
) -> None:
    """Train a denoiser, on noisy images alone or on clean ones."""
    from edgedenoise.datacheck.check import data_report_text
    from edgedenoise.training.config.settings import settings

    given: dict[str, Any] = {
        "data": data,
        "out": out,
        "network": network,
        "objective": objective,
        "clean": clean,
        "teacher": teacher,
        "init": init,
        "steps": steps,
        "hours": hours,
        "patch": patch,
        "batch": batch,
        "blind_sampler": blind_sampler,
        "val_clean": val_clean,
        "val_noisy": val_noisy,
        "seed": seed,
        "device": device,
    }
    overrides = [*(set_ or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    chosen = settings(config, overrides, resume=resume)
    with output.progress() as progress:
        result = edgedenoise.train(
            chosen,
            resume=resume,
            on_data_check=lambda report: output.note(data_report_text(report)),
            progress=progress,
        )
    if result.rank > 0:  # of several processes one speaks
        return
    following = f"build {result.run} --data {chosen.noisy_images} -o NAME.edge"
    if not chosen.noisy_images:
        levels = "--noise-level 0 --noise-level 0.5 --noise-level 1"
        following = f"build {result.run} --data {chosen.clean_images} {levels} -o NAME.edge"
    if not chosen.trains_direct:
        following = f"train --objective cbsn --init {result.run} --data {chosen.noisy_images} --out RUN"
    speed = result.throughput
    rate = f", {speed.steps_per_second:.3g} steps/s, {speed.share_of_peak:.0%} of this machine's peak" if speed else ""
    text = (
        f"trained {result.steps} steps in {result.seconds:.0f} s ({result.precision}{rate}): {result.run}\n"
        f"next: edgedenoise {following}"
    )
    output.result(result, text)
