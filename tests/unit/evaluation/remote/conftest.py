"""A device that is reached over SSH: a real sshd on loopback."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

import pytest
from ssh_server import INSTALL, SshServer, sshd_program

from edgedenoise.evaluation.remote.host import SSH_COMMAND, Host

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    program = sshd_program()
    if program is None or os.name == "nt":
        pytest.skip(INSTALL)
    server = SshServer(tmp_path_factory.mktemp("sshd"), program)
    yield server
    server.close()


@pytest.fixture
def server(running_server: SshServer, monkeypatch: pytest.MonkeyPatch) -> SshServer:
    monkeypatch.setenv(SSH_COMMAND, running_server.command())
    return running_server


@pytest.fixture
def host(server: SshServer) -> Host:
    return Host("127.0.0.1", getpass.getuser(), server.port)
