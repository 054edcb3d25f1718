"""A device that is reached over SSH: a real sshd on loopback."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

import pytest
from ssh_fixtures import running_server

from edgedenoise.evaluation.remote.host import SSH_COMMAND, Host

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ssh_server import SshServer


@pytest.fixture(scope="session")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with running_server(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.fixture
def server(device: SshServer, monkeypatch: pytest.MonkeyPatch) -> SshServer:
    monkeypatch.setenv(SSH_COMMAND, device.command())
    return device


@pytest.fixture
def host(server: SshServer) -> Host:
    return Host("127.0.0.1", getpass.getuser(), server.port)
