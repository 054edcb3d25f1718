"""Commands run on devices over SSH: their results come back, nothing stays there, and failures are explained."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ssh_server import Proxy, free_port

import edgedenoise
from edgedenoise.errors import HostError, RemoteCommandError
from edgedenoise.evaluation.remote.host import SSH_COMMAND, Host
from edgedenoise.evaluation.remote.session import HostResult, RemoteJob, RemotePython, run_on_hosts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ssh_server import SshServer

HERE = RemotePython(sys.executable)
BENCH = ("bench", "files/tiny.edge", "--shape", "32", "--repeats", "2", "--threads", "1", "--out", "result.json")


def job(bundle: Path, words: Sequence[str] = BENCH) -> RemoteJob:
    return RemoteJob(tuple(words), {"files/tiny.edge": bundle}, ("bench", str(bundle)), str(bundle))


def failure(result: HostResult) -> str:
    assert isinstance(result.error, HostError)
    return f"{result.error.message}\n{result.error.hint}"


def test_measurements_come_back_from_all_devices_that_work(
    server: SshServer, host: Host, committed_bundle: Path
) -> None:
    stages: list[tuple[str, int, int, str]] = []

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        stages.append((stage, done, total, note))

    dead = Host("127.0.0.1", host.user, free_port())
    found, failed = run_on_hosts([host, dead], job(committed_bundle), HERE, progress)
    assert found.error is None
    assert "onnx-int8-u8s7" in found.text
    (run,) = found.runs
    assert run.machine.label == host.label == f"{host.user}@127.0.0.1:{server.port}"
    assert run.arguments[-2:] == ("--on", f"ssh://{host.label}")
    assert run.bundle.source == str(committed_bundle)
    assert [variant.error for variant in run.variants] == ["", ""]
    assert {stage for stage, *_ in stages} == {host.label, dead.label}
    assert any(stage == host.label and note == "measure" and done == total > 1 for stage, done, total, note in stages)
    assert server.left_behind(wait_s=10) == []
    assert f"{dead.label} cannot be reached" in failure(failed)
    assert "Connection refused" in failure(failed)
    assert f"-p {dead.port} {host.user}@127.0.0.1 true" in failure(failed)


def test_a_connection_that_is_cut_is_an_error_and_the_device_cleans_up(
    server: SshServer, host: Host, committed_bundle: Path
) -> None:
    proxy = Proxy(server.port)
    running = threading.Event()

    def progress(stage: str, done: int, total: int, note: str = "") -> None:
        if "measure" in note and done >= 2:
            running.set()

    def cut() -> None:
        running.wait(120)
        proxy.cut()

    threading.Thread(target=cut, daemon=True).start()
    words = [word if word != "2" else "100000" for word in BENCH]
    (found,) = run_on_hosts([Host("127.0.0.1", host.user, proxy.port)], job(committed_bundle, words), HERE, progress)
    proxy.close()
    assert running.is_set()
    assert "ended while running edgedenoise bench" in failure(found)
    assert "No results were written" in failure(found)
    assert found.runs == ()
    assert server.left_behind(wait_s=20) == []
    deadline = time.monotonic() + 20
    while (left := _processes_with(str(server.temporary))) and time.monotonic() < deadline:
        time.sleep(0.1)  # the agent ends after it has removed the folder
    assert left == []


def _processes_with(text: str) -> list[int]:
    """Return the processes whose environment names a folder; none where the system does not show them."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (process / "environ").read_bytes():
                found.append(int(process.name))
        except OSError:
            continue
    return found


def test_a_command_that_fails_on_the_device_is_explained(server: SshServer, host: Host, committed_bundle: Path) -> None:
    words = ("bench", "files/tiny.edge", "--device", "nowhere", "--repeats", "1", "--shape", "16")
    (found,) = run_on_hosts([host], job(committed_bundle, words), HERE)
    assert isinstance(found.error, RemoteCommandError)
    assert "edgedenoise bench failed with exit code 100: none of the 2 variants" in found.error.message
    assert server.left_behind(wait_s=10) == []


def test_a_missing_python_names_the_command_that_installs_it(server: SshServer, host: Host) -> None:
    (found,) = run_on_hosts([host], RemoteJob((), {}, (), ""), RemotePython("python9"))
    assert "has no Python called python9" in failure(found)
    assert "sudo apt-get install python3" in failure(found)


def test_a_python_without_edgedenoise_names_what_is_missing(server: SshServer, host: Host, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')  # without site-packages
    bare.chmod(0o755)
    (found,) = run_on_hosts([host], RemoteJob(("bench",), {}, (), ""), RemotePython(str(bare)))
    assert "lacks edgedenoise, numpy, PIL, onnxruntime" in failure(found)
    assert f"-m pip install edgedenoise=={edgedenoise.__version__}; or add --install" in failure(found)
    assert server.left_behind(wait_s=10) == []


def test_unknown_host_keys_and_refused_keys_are_explained(
    server: SshServer, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SSH_COMMAND, server.command(known_hosts="none"))
    (found,) = run_on_hosts([host], RemoteJob(("bench",), {}, (), ""), HERE)
    assert "Host key verification failed" in failure(found)
    assert "accept the key of the host once" in failure(found)
    monkeypatch.setenv(SSH_COMMAND, server.command(user_key="host"))
    (found,) = run_on_hosts([host], RemoteJob(("bench",), {}, (), ""), HERE)
    assert "Permission denied" in failure(found)
    assert "ssh-copy-id -F none" in failure(found) or "ssh-copy-id" in failure(found)


def test_a_machine_without_ssh_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SSH_COMMAND, "/nowhere/ssh")
    (found,) = run_on_hosts([Host("board")], RemoteJob(("bench",), {}, (), ""), HERE)
    assert "board cannot be reached: /nowhere/ssh: No such file" in failure(found)


@pytest.mark.slow
@pytest.mark.network
def test_a_device_without_edgedenoise_installs_it_for_the_session(
    server: SshServer, host: Host, committed_bundle: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys._base_executable} "$@"\n')  # the Python that the environment is made of
    bare.chmod(0o755)
    (found,) = run_on_hosts([host], job(committed_bundle), RemotePython(str(bare), install=True))
    if isinstance(found.error, HostError) and "cannot be installed" in found.error.message:
        pytest.skip(f"the device reaches no package index: {found.error.message[-200:]}")
    assert found.error is None, found.error
    (run,) = found.runs
    assert [variant.error for variant in run.variants] == ["", ""]
    assert server.left_behind(wait_s=30) == []
