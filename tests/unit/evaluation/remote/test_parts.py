"""Addresses, archives from devices, and the agent when its client falls silent."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from edgedenoise.errors import HostError, UsageError
from edgedenoise.evaluation.remote import agent
from edgedenoise.evaluation.remote.connection import _archives, _unpack
from edgedenoise.evaluation.remote.host import Host
from edgedenoise.evaluation.remote.wheels import wheels_folder

BOARD = Host("board")


@pytest.mark.parametrize(
    ("address", "host", "label"),
    [
        ("ssh://pi@192.168.1.20:2222", Host("192.168.1.20", "pi", 2222), "pi@192.168.1.20:2222"),
        ("ssh://raspberrypi.local", Host("raspberrypi.local"), "raspberrypi.local"),
        ("ssh://Jetson/", Host("Jetson"), "Jetson"),
    ],
)
def test_addresses(address: str, host: Host, label: str) -> None:
    assert Host.parse(address) == host
    assert host.label == label
    assert Host.parse(host.address) == host


@pytest.mark.parametrize(
    "address",
    [
        "pi@board",
        "http://board",
        "ssh://",
        "ssh://-oProxyCommand=touch",
        "ssh://-l@board",
        "ssh://pi:secret@board",
        "ssh://board/home",
        "ssh://board:port",
        "ssh://bo ard",
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(UsageError, match="expected ssh://user@host:port, got"):
        Host.parse(address)


def test_ssh_never_asks_and_notices_a_lost_connection() -> None:
    words = Host("board", "pi", 22).ssh_words()
    assert words[-3:] == ["-p", "22", "pi@board"]
    assert {"BatchMode=yes", "ServerAliveInterval=5"} <= set(words)


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as made:
        for member, data in members:
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return stream.getvalue()


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/../../outside"])
def test_a_device_cannot_write_outside_of_the_target(tmp_path: Path, name: str) -> None:
    with pytest.raises(HostError, match="board sent a file that is not accepted"):
        _unpack(archive((tarfile.TarInfo(name), b"x")), tmp_path / "in", BOARD)
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with pytest.raises(HostError, match="not accepted"):
        _unpack(archive((link, b"")), tmp_path / "in", BOARD)
    with pytest.raises(HostError, match="damaged archive"):
        _unpack(b"nothing" * 200, tmp_path / "in", BOARD)
    assert not (tmp_path / "outside").exists()


def test_files_and_folders_arrive_as_they_are(tmp_path: Path, committed_bundle: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("text")
    for data in _archives({"a/note.txt": note, "b/tiny.edge": committed_bundle}):
        assert _unpack(data, tmp_path / "out", BOARD)
    assert (tmp_path / "out" / "a" / "note.txt").read_text() == "text"
    sent = {p.relative_to(committed_bundle): p.read_bytes() for p in committed_bundle.rglob("*") if p.is_file()}
    copy = tmp_path / "out" / "b" / "tiny.edge"
    assert {p.relative_to(copy): p.read_bytes() for p in copy.rglob("*") if p.is_file()} == sent


def test_the_agent_leaves_when_it_hears_nothing(tmp_path: Path) -> None:
    source = Path(agent.__file__).read_text().replace("SILENCE_S = 60.0", "SILENCE_S = 0.2") + "\nmain()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == agent.MAGIC
    assert process.wait(timeout=30) == 1
    assert list(tmp_path.iterdir()) == []
    process.stdin.close()
    process.stdout.close()


def test_what_is_no_wheel_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "edgedenoise.zip", tmp_path / "missing.whl"):
        with pytest.raises(UsageError, match="expected wheels"), wheels_folder([path]):
            pass
