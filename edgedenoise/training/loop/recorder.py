"""What a run writes while it trains: rows, validations, previews, curves and checkpoints. On rank 0 only."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from edgedenoise.training.checkpoint import LAST, save_checkpoint
from edgedenoise.training.config.schedules import learning_rate_at, ramp_at
from edgedenoise.training.loop.logs import LOG, VALIDATION, RunLog
from edgedenoise.training.loop.validation import COLUMNS

if TYPE_CHECKING:
    from typing_extensions import Self

    from edgedenoise.training.config.config import TrainConfig
    from edgedenoise.training.loop.preparation import PreparedRun
    from edgedenoise.training.loop.stepping import Stepper
    from edgedenoise.training.loop.validation import Validator


class Recorder:
    """Writes what is due after every step. Use it as a context manager."""

    def __init__(self, prepared: PreparedRun, stepper: Stepper, validator: Validator) -> None:
        self._run, self._stepper, self._validator = prepared.run, stepper, validator
        self._config: TrainConfig = stepper.config
        self._saved = -1
        self._stack = ExitStack()
        columns = ("learning_rate", "ramp", "gradient_norm", "total", *stepper.objective.parts)
        self._log = self._stack.enter_context(RunLog(prepared.run / LOG, columns, done=prepared.start))
        self._begun = time.monotonic() - self._log.seconds_before
        self._scores: RunLog | None = None
        if validator.has_images:
            scores = RunLog(prepared.run / VALIDATION, COLUMNS, done=prepared.start)
            self._scores = self._stack.enter_context(scores)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def log(self, done: int, losses: dict[str, float], gradient_norm: float) -> None:
        """Write a row of losses after `done` steps."""
        step = done - 1
        others = {"learning_rate": learning_rate_at(self._config, step), "ramp": ramp_at(self._config, step)}
        self._log.add(done, self._seconds(), {**losses, **others, "gradient_norm": gradient_norm})

    def is_validation_due(self, done: int) -> bool:
        """Return whether a validation or a preview is due after `done` steps."""
        return self._validates(done) or is_due(done, self._config.preview_every, self._config)

    def write(self, done: int) -> None:
        """Validate, save and preview what is due after `done` steps.

        The checkpoint comes before the preview, which can be given up where the disk is full. It holds the best loss
        so far, so the validation comes before it.
        """
        config, network = self._config, self._stepper.network
        if self._scores is not None and self._validates(done):
            with self._stepper.average.applied():
                found = self._validator.validate(self._run, network, done)
            self._scores.add(done, self._seconds(), {name: getattr(found, name) for name in COLUMNS})
        if is_due(done, config.checkpoint_every, config):
            self.save(done)
        if is_due(done, config.preview_every, config):
            with self._stepper.average.applied():
                self._validator.show(self._run, network, done)

    def save(self, done: int) -> None:
        """Write the checkpoint after `done` steps, unless it is written already."""
        if self._saved == done:
            return
        save_checkpoint(
            self._run / LAST,
            config=self._config,
            step=done,
            network=self._stepper.network,
            optimizer=self._stepper.optimizer,
            mean=self._stepper.average.state(),
            best=self._validator.best,
        )
        self._saved = done

    def _validates(self, done: int) -> bool:
        return self._scores is not None and is_due(done, self._config.val_every, self._config)

    def _seconds(self) -> float:
        return time.monotonic() - self._begun


def is_due(done: int, every: int, config: TrainConfig) -> bool:
    """Return whether something that happens every so many steps, and at the end, happens after `done` steps."""
    return done % every == 0 or done == config.steps
