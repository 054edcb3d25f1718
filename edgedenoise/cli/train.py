"""The command `edgedenoise train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import edgedenoise
from edgedenoise.cli.common import Output, cli_command
from edgedenoise.printable import one_line


@cli_command
def command(
    output: Output,
    data: Annotated[Path | None, typer.Option(help="Folder of noisy images.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to make: checkpoints, log, previews.")] = None,
    network: Annotated[
        str | None, typer.Option(help="Network: cbsn-24x4 or another size, edge-tiny, edge, edge-plus.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="Objective: cbsn, sdap, distill, supervised, qat or qat-self.")
    ] = None,
    clean: Annotated[
        Path | None, typer.Option(help="Folder of clean images, for supervised and qat; ground truth for distill.")
    ] = None,
    teacher: Annotated[Path | None, typer.Option(help="Run folder of the teacher, for distill.")] = None,
    init: Annotated[
        Path | None, typer.Option(help="Run folder or bundle whose weights the network begins with.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; schedules scale with it.")] = None,
    hours: Annotated[
        float | None, typer.Option(help="Training time instead of --steps; the steps are measured on this machine.")
    ] = None,
    patch: Annotated[int | None, typer.Option(help="Side of a training patch in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Patches per step, over all processes.")] = None,
    blind_sampler: Annotated[
        str | None, typer.Option(help="How the blind loss splits images: lattice or permuted.")
    ] = None,
    val_clean: Annotated[
        Path | None, typer.Option(help="Folder with the ground truth of --val-noisy, for PSNR and SSIM.")
    ] = None,
    val_noisy: Annotated[
        Path | None, typer.Option(help="Folder of noisy images to validate on; default: --data.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice.")] = None,
    device: Annotated[str | None, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="<name|file>", help="Preset, for example cbsn-official, or a TOML file; other options override it."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="<key=value>", help="Set any field of the config; repeatable."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, with its own settings.")] = False,
) -> None:
    """Train a denoiser on noisy images, or on clean ones."""
    from edgedenoise.datacheck.check import data_report_text
    from edgedenoise.training.settings import next_command, settings

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
    if result.rank > 0:  # only the first of several processes prints
        return
    speed = result.throughput
    rate = f", {speed.steps_per_second:.3g} steps/s, {speed.share_of_peak:.0%} of this machine's peak" if speed else ""
    text = (
        f"trained {result.steps} steps in {result.seconds:.0f} s ({result.precision}{rate}): {one_line(result.run)}\n"
        f"next: {next_command(chosen, result.run)}"
    )
    output.result(result, text)
