"""`--on` hands the command line on to a device, and brings back what it changes."""

from __future__ import annotations

import getpass
import sys
from typing import TYPE_CHECKING

import pytest
from ssh_fixtures import running_server

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import HostError, RemoteCommandError, UsageError
from edgedenoise.evaluation.remote.host import SSH_COMMAND
from edgedenoise.evaluation.result_files import read_results

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from command_line import Run
    from ssh_server import SshServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with running_server(tmp_path_factory.mktemp("sshd")) as started:
        yield started


@pytest.fixture
def on(server: SshServer, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setenv(SSH_COMMAND, server.command())
    address = f"ssh://{getpass.getuser()}@127.0.0.1:{server.port}"
    return ("--on", address, "--remote-python", sys.executable)


def test_bench_on_a_device(run: Run, on: tuple[str, ...], tiny_bundle: Path, tmp_path: Path) -> None:
    options = ("--shape", 32, "--repeats", 1, "--threads", 1, "-o", tmp_path / "result.json")
    done = run("bench", tiny_bundle, *options, *on)
    assert done.code == 0, done.err
    label = on[1].removeprefix("ssh://")
    assert done.out.startswith(f"{label}\nvariant ")
    (measured,) = read_results(tmp_path / "result.json").runs
    assert measured.machine.label == label
    given = ("bench", str(tiny_bundle), "--shape", "32", "--repeats", "1", "--threads", "1")
    assert measured.arguments == (*given, "--remote-python", sys.executable, "--on", on[1])
    timing = measured.variants[0].timing("call")
    assert timing is not None
    assert (timing.width_px, len(timing.samples_ms), measured.environment.threads) == (32, 1, 1)


def test_compile_on_a_device_brings_the_bundle_back(
    run: Run, on: tuple[str, ...], server: SshServer, tiny_bundle: Path
) -> None:
    pytest.importorskip("openvino", reason='to compile, install: pip install "edgedenoise[openvino]"')
    pytest.importorskip("onnx", reason='to compile, install: pip install "edgedenoise[quantize]"')
    done = run("compile", tiny_bundle, "--target", "openvino", "--precision", "fp32", *on, "--json")
    assert done.code == 0, done.err
    (result,) = done.json()
    assert "openvino-fp32" in [variant["name"] for variant in result["result"]]
    bundle = Bundle.open(tiny_bundle)
    assert bundle.model_files(bundle.variant("openvino-fp32"))
    assert server.left_behind(wait_s=10) == []


def test_test_on_a_device_writes_its_files_here(
    run: Run, on: tuple[str, ...], tiny_bundle: Path, tmp_path: Path
) -> None:
    done = run("test", tiny_bundle, "--max-levels", 255, "--junit", tmp_path / "junit.xml", *on)
    assert done.code == 0, done.err
    assert "passed   onnx-int8-u8s7 selftest" in done.out
    assert "onnx-int8-u8s7" in (tmp_path / "junit.xml").read_text()
    failed = run("test", tiny_bundle, "--max-levels", 0, "--junit", tmp_path / "junit.xml", *on, "--json")
    assert failed.code == RemoteCommandError.exit_code
    (one,) = failed.json()
    assert "failed with exit code" in one["error"]["message"]
    assert "<failure" in (tmp_path / "junit.xml").read_text()


def test_options_for_devices_are_checked_first(run: Run, tiny_bundle: Path, tmp_path: Path) -> None:
    board = ("--on", "ssh://board")
    for words, message in (
        (("bench", tiny_bundle, "--on", "board"), "expected ssh://user@host:port, got 'board'"),
        (("bench", tiny_bundle, "--install"), "--install is for devices: expected --on as well"),
        (("bench", tiny_bundle, "--wheels", tmp_path, *board), "--wheels is for --install"),
        (("compare", tiny_bundle, "--noisy", tmp_path / "none", *board), "none does not exist"),
        (("compare", tiny_bundle, "--noisy", tmp_path, "-o", tmp_path / "a.html", *board), "ends in .json"),
        (
            ("compile", tiny_bundle, "--target", "openvino", *board, "--on", "ssh://b"),
            "expected one device, got 2",
        ),
    ):
        done = run(*words)
        assert done.code == UsageError.exit_code
        assert message in done.err


def test_a_device_that_cannot_be_reached_has_its_own_exit_code(
    run: Run, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SSH_COMMAND, "false")
    results = tmp_path / "results.json"
    done = run("bench", tiny_bundle, "--on", "ssh://board", "-o", results)
    assert done.code == HostError.exit_code
    assert "board cannot be reached: ssh ended with exit code 1" in done.err
    both = run("bench", tiny_bundle, "--on", "ssh://board", "--on", "ssh://phone", "-o", results)
    assert "2 of 2 devices failed:" in both.err
    assert not results.exists()
