"""Two devices, this machine and one behind SSH: each is measured with one command, and one report joins both."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from images import noisy_pair
from ssh_fixtures import running_server

pytest.importorskip("jinja2", reason='to render pages, install: pip install "edgedenoise[report]"')

from edgedenoise.evaluation.remote.host import SSH_COMMAND
from edgedenoise.evaluation.result_files import read_results
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ssh_server import SshServer

BUNDLE = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with running_server(tmp_path_factory.mktemp("sshd")) as started:
        yield started


def edgedenoise(server: SshServer, *words: object) -> str:
    command = [sys.executable, "-m", "edgedenoise", *map(str, words)]
    environment = os.environ | {SSH_COMMAND: server.command()}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-3000:]}"
    return done.stdout


def test_two_devices_are_measured_and_joined_in_one_report(server: SshServer, tmp_path: Path) -> None:
    for seed in (300, 301):
        for kind, pixels in zip(("noisy", "clean"), noisy_pair(seed), strict=True):
            write_image(Image(pixels[:64, :80]), tmp_path / kind / f"{seed}.png")
    images = ("--noisy", tmp_path / "noisy", "--clean", tmp_path / "clean")
    compare = ("compare", BUNDLE, *images, "--repeats", 2, "--threads", 1)
    address = f"ssh://{getpass.getuser()}@127.0.0.1:{server.port}"
    results = tmp_path / "results"
    edgedenoise(server, *compare, "-o", results / "here.json")
    edgedenoise(server, *compare, "-o", results / "devices.json", "--on", address, "--remote-python", sys.executable)
    text = edgedenoise(server, "report", results, "-o", tmp_path / "devices.html")

    (here,), (there,) = (read_results(results / f"{name}.json").runs for name in ("here", "devices"))
    assert there.machine.label == address.removeprefix("ssh://") != here.machine.label
    assert there.images == here.images
    assert there.bundle == here.bundle
    assert [variant.images for variant in there.variants] == [variant.images for variant in here.variants]
    assert all(len(timing.samples_ms) == 2 for variant in there.variants for timing in variant.timings)
    page = (tmp_path / "devices.html").read_text(encoding="utf-8")
    for run in (here, there):
        assert text.count(f"{run.machine.label}, {run.bundle.name}: ") == 1  # its verdict
        assert run.machine.label in page
        assert run.id in page  # the raw samples are in the page
    assert server.left_behind(wait_s=10) == []
