from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from edgedenoise.errors import OutputError
from edgedenoise.training.loop.board import Board

if TYPE_CHECKING:
    from pathlib import Path

records = pytest.importorskip("tensorboard.summary.writer.record_writer", reason="make test installs TensorBoard")


def test_a_disk_that_becomes_full_is_an_error_of_ours_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    hook = threading.excepthook
    board = Board(tmp_path, purge_step=1)
    board.add(1, {"loss": 1.0})
    monkeypatch.setattr(records.RecordWriter, "write", write)

    def fill() -> None:
        for step in range(2, 100):  # the thread meets it, and the next call reports it
            board.add(step, {"loss": 1.0})

    with pytest.raises(OutputError, match="No space left on device"):
        fill()
    board.close()
    assert threading.excepthook is hook
    assert "Traceback" not in capfd.readouterr().err
