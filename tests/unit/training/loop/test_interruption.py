"""Ctrl-C and SIGTERM keep what was learned; one command at a time trains in a run folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from resuming import check_same_end

import edgedenoise
from edgedenoise.errors import TrainingError, TrainingInterrupted
from edgedenoise.locks import one_writer
from edgedenoise.training.checkpoint import LAST, read_checkpoint
from edgedenoise.training.loop.interruption import stop_requests

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.training.config.config import CBSNConfig

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


def send_at(step: int, number: int, times: int = 1) -> object:
    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "train" and done == step and note:
            for _ in range(times):
                os.kill(os.getpid(), number)

    return progress


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_training_with_a_checkpoint_and_it_resumes_bit_for_bit(
    config: CBSNConfig, tmp_path: Path, number: int, code: int
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(TrainingInterrupted) as caught:
        edgedenoise.train(config, progress=send_at(5, number))  # type: ignore[arg-type]
    run = tmp_path / "run"
    assert read_checkpoint(run / LAST).step == 5, "between the checkpoints of steps 3 and 6"
    assert caught.value.exit_code == code
    assert caught.value.hint == f"Continue it with: edgedenoise train --resume --out {run}"
    assert signal.getsignal(number) == before
    edgedenoise.train(config, resume=True)
    whole = edgedenoise.train(config.with_overrides([f"out={tmp_path / 'whole'}"]))
    check_same_end(run, whole.run)
    assert (run / "log.csv").read_text().count("\n") == (whole.run / "log.csv").read_text().count("\n")


def test_a_second_ctrl_c_stops_at_once(config: CBSNConfig) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        edgedenoise.train(config, progress=send_at(5, signal.SIGINT, times=2))  # type: ignore[arg-type]
    assert not isinstance(caught.value, TrainingInterrupted)


def test_other_threads_leave_the_signals_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def use() -> None:
        with stop_requests():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert seen == [before]


COMMAND = """
import os, signal, sys
from edgedenoise.training.loop import stepping
step = stepping.Stepper.step
def interrupted(self, number, batch):
    if number == 4:
        os.kill(os.getpid(), signal.{signal})
    return step(self, number, batch)
stepping.Stepper.step = interrupted
from edgedenoise.__main__ import main
sys.argv[0] = "edgedenoise"
main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_the_command_says_how_to_go_on(config: CBSNConfig, tmp_path: Path, name: str, code: int) -> None:
    (tmp_path / "config.toml").write_text(config.to_toml())
    arguments = ["train", "--config", str(tmp_path / "config.toml")]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND.format(signal=name), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "interrupted after 5 steps" in done.stderr
    assert f"edgedenoise train --resume --out {tmp_path / 'run'}" in done.stderr
    assert "Traceback" not in done.stderr
    assert read_checkpoint(tmp_path / "run" / LAST).step == 5


def test_two_commands_do_not_train_in_one_run(config: CBSNConfig, tmp_path: Path) -> None:
    with (
        one_writer(tmp_path / "run", TrainingError),
        pytest.raises(TrainingError, match="is being written by another command"),
    ):
        edgedenoise.train(config)
    assert not (tmp_path / "run").exists()
    edgedenoise.train(config)
    with one_writer(tmp_path / "run", TrainingError), pytest.raises(TrainingError, match="another command"):
        edgedenoise.train(config.with_overrides(["steps=12"]), resume=True)


EQUAL = """
import sys, edgedenoise
from edgedenoise.training.config.config import TrainConfig
edgedenoise.train(TrainConfig.from_toml(sys.argv[1]))
"""


def test_checkpoints_of_equal_runs_are_equal_to_the_byte(config: CBSNConfig, tmp_path: Path) -> None:
    """In processes of their own: the order in which the library writes metadata changes from one to the next."""
    files = []
    for number in range(3):
        work = tmp_path / str(number)
        work.mkdir()
        (work / "config.toml").write_text(config.with_overrides(["out=run", "steps=3"]).to_toml())
        subprocess.run([sys.executable, "-c", EQUAL, "config.toml"], cwd=work, check=True)
        files.append((work / "run" / LAST).read_bytes())
    assert files[0] == files[1] == files[2]
    header = int.from_bytes(files[0][:8], "little")
    assert header % 8 == 0
