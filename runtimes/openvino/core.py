"""OpenVINO's `Core`, one for the whole process.

The CPU plugin of each core installs a stack for signal handlers and takes it away when the core is deleted. When two
cores are deleted in the order in which they were made, the stack that remains is one that no longer exists, and the
next signal, such as Ctrl-C, ends the process with a segmentation fault (OpenVINO 2026.4). A core that lives as long as
the process avoids this.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any


def shared_core() -> Any:
    """Return the `openvino.Core` of this process; a forked process gets one of its own.

    Raises:
        ImportError: the package openvino is not installed.
        RuntimeError: OpenVINO does not start.
    """
    return _core_of(os.getpid())


@lru_cache(maxsize=1)
def _core_of(process: int) -> Any:  # noqa: ARG001
    import openvino

    return openvino.Core()
