"""Write values to TensorBoard, when it is installed."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from edgedenoise.atomic import output_errors

if TYPE_CHECKING:
    from pathlib import Path


class Board:
    """TensorBoard's writer, whose errors of the system are ours.

    TensorBoard writes in a thread of its own. When the disk is full, the thread ends with a traceback, and the next
    call in the main thread raises its error. The traceback is left out.
    """

    def __init__(self, folder: Path, *, purge_step: int) -> None:
        """Open an event file in `folder`, if TensorBoard is installed.

        Args:
            folder: the folder of the event files.
            purge_step: TensorBoard drops what earlier event files hold from this step on.

        Raises:
            OutputError: the file cannot be written.
        """
        self._folder, self._writer, self._hook = folder, None, threading.excepthook
        writer = _writer_class()
        if writer is None:
            return
        threading.excepthook = self._report
        try:
            with output_errors(folder):
                self._writer = writer(str(folder), purge_step=purge_step)
        except BaseException:
            threading.excepthook = self._hook
            raise

    def add(self, step: int, values: dict[str, float]) -> None:
        """Write the values of a step.

        Raises:
            OutputError: they cannot be written.
        """
        if self._writer is not None:
            with output_errors(self._folder):
                for name, value in values.items():
                    self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left and end the thread; values that cannot be written any more are given up."""
        if self._writer is not None:
            with suppress(OSError):  # `add` has raised it; the values are in the CSV file, too
                self._writer.close()
            threading.excepthook = self._hook

    def _report(self, found: threading.ExceptHookArgs) -> None:
        if not (isinstance(found.exc_value, OSError) and type(found.thread).__module__.startswith("tensorboard.")):
            self._hook(found)


def _writer_class() -> Any:
    """Return the class of TensorBoard's writer, or None when it is not installed."""
    try:
        import tensorboard.compat

        # A switch of TensorBoard: without it, TensorBoard imports TensorFlow, where that is installed.
        sys.modules.setdefault("tensorboard.compat.notf", tensorboard.compat)
        from torch.utils.tensorboard import SummaryWriter  # type: ignore[attr-defined,unused-ignore]
    except ImportError:
        return None
    return SummaryWriter
