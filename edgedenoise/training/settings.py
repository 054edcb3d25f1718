"""The config that a command line means: a preset or a file, the run's own settings, and overrides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgedenoise.shell import command_line
from edgedenoise.training.config.config import RUN_CONFIG, CBSNConfig, TrainConfig
from edgedenoise.training.config.text import texts_of
from edgedenoise.training.initial_weights import network_of

if TYPE_CHECKING:
    from collections.abc import Iterable


def settings(config: Path | str | None, overrides: Iterable[str], *, resume: bool = False) -> TrainConfig:
    """Return the config that a command line means.

    Args:
        config: name or file, see `TrainConfig.named`; None for the run's own on a resume, and else the defaults.
        overrides: `key=value` texts, which win. `init` brings its own network unless one is named, and replaces
            fresh weights.
        resume: whether a run goes on.

    Raises:
        UsageError: a name, a key or a value is not accepted.
        TrainingError: `init` is neither a run nor a bundle.
    """
    values = texts_of(overrides)
    out = values.get("out")
    if config is None and resume and out and (Path(out) / RUN_CONFIG).is_file():
        config = Path(out) / RUN_CONFIG  # a run knows its own settings
    base = CBSNConfig() if config is None else TrainConfig.named(config)
    if values.get("init") and "network" not in values and config is None:
        values["network"] = network_of(values["init"])
    return base.with_overrides([f"{key}={value}" for key, value in values.items()])


def next_command(config: TrainConfig, run: Path) -> str:
    """Return the command that follows a finished training.

    Args:
        config: the settings that were trained with.
        run: the run folder.

    Returns:
        The build command; for an objective that trains the blind path only, the training of the non-blind path.
    """
    if not config.trains_direct:
        init = ("--init", run, "--data", config.noisy_images, "--out", f"{run}-direct")
        return command_line("train", "--objective", "cbsn", *init)
    if config.noisy_images:
        data = ["--data", config.noisy_images]
    else:
        data = ["--data", config.clean_images]
        for level in ("0", "0.5", "1"):
            data += ["--noise-level", level]
    return command_line("build", run, *data, "-o", f"{run.name}.edge")
