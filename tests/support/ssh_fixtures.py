"""Start the device of `ssh_server` for a test module."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from ssh_server import INSTALL, SshServer, sshd_program

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def running_server(folder: Path) -> Iterator[SshServer]:
    """Yield a running sshd, or skip the test."""
    program = sshd_program()
    if program is None or os.name == "nt":
        pytest.skip(INSTALL)
    server = SshServer(folder, program)
    try:
        yield server
    finally:
        server.close()
