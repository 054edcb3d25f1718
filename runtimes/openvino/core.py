"""OpenVINO's `Core`, one for the whole process.

The CPU plugin of each core installs a stack for signal handlers and takes it away when the core is deleted. When two
cores are deleted in the order in which they were made, the stack that remains is one that no longer exists, and the
next signal, such as Ctrl-C, ends the process with a segmentation fault (OpenVINO 2026.4). A core that lives as long as
the process avoids this.
"""

from __future__ import annotations

import os
import threading
from typing import Any

_lock = threading.Lock()
_cores: dict[int, Any] = {}  # by process; that of the parent is never deleted in a fork, as deletion is what does harm


def shared_core() -> Any:
    """Return the `openvino.Core` of this process; a forked process gets one of its own.

    Raises:
        ImportError: the package openvino is not installed.
        RuntimeError: OpenVINO does not start.
    """
    process = os.getpid()
    with _lock:
        if process not in _cores:
            import openvino

            _cores[process] = openvino.Core()
        return _cores[process]
