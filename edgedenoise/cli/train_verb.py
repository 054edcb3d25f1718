"""`edgedenoise train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

import edgedenoise
from edgedenoise.cli.common import Output, verb


@verb
def command(
    output: Output,
    data: Annotated[Path | None, typer.Option(help="Folder of noisy photographs.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run: checkpoints, log, previews.")] = None,
    network: Annotated[str | None, typer.Option(help="cbsn-WIDTHxMODULES, for example cbsn-24x4.")] = None,
    objective: Annotated[str | None, typer.Option(help="What a step minimises: cbsn.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the run; schedules scale with it.")] = None,
    patch: Annotated[int | None, typer.Option(help="Side of a training patch in pixels.")] = None,
    batch: Annotated[int | None, typer.Option(help="Patches per step.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of every random choice.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps.")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file of settings; options here win over it.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any setting of the run; repeatable."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its own settings.")
    ] = False,
) -> None:
    """Train a denoiser on noisy photographs alone."""
    from edgedenoise.training.config import RUN_CONFIG

    given: dict[str, Any] = {
        "data": data,
        "out": out,
        "network": network,
        "objective": objective,
        "steps": steps,
        "patch": patch,
        "batch": batch,
        "seed": seed,
        "device": device,
    }
    overrides = [*(set_ or []), *(f"{key}={value}" for key, value in given.items() if value is not None)]
    if config is None and resume and out is not None and (out / RUN_CONFIG).is_file():
        config = out / RUN_CONFIG  # a run knows its own settings
    base = edgedenoise.TrainConfig() if config is None else edgedenoise.TrainConfig.from_toml(config)
    chosen = base.with_overrides(overrides)
    with output.progress() as progress:
        result = edgedenoise.train_model(chosen, resume=resume, progress=progress)
    text = (
        f"trained {result.steps} steps in {result.seconds:.0f} s: {result.run}\n"
        f"next: edgedenoise build {result.run} --data {chosen.data} -o NAME.edge"
    )
    output.result(result, text)
