"""The torchrun commands of the guide, run on two hosts: network namespaces joined by a virtual cable."""

from __future__ import annotations

import csv
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from images import write_noisy_images

import edgedenoise
from edgedenoise.training.config.config import TrainConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

pytest.importorskip("torch", reason='pip install "edgedenoise[train]"')
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "many-machines.md"
SMALL = ["--network", "cbsn-8x1", "--steps", "3", "--patch", "20", "--device", "cpu", "--set", "log_every=1"]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two network namespaces with the addresses 10.0.0.1 and 10.0.0.2 on eth0."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux, root and the program ip: apt-get install iproute2")
    names = [f"edn-{os.getpid()}-{number}" for number in (1, 2)]
    try:
        try:
            for name in names:
                ip("netns", "add", name)
            ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine allows no network namespaces: {error.stderr.strip()}")
        for number, name in enumerate(names, start=1):
            ip("-n", name, "address", "add", f"10.0.0.{number}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def commands() -> list[list[str]]:
    """Return the torchrun commands of the guide as words, without the program."""
    text = GUIDE.read_text(encoding="utf-8").replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in re.findall(r"^torchrun .*$", text, re.MULTILINE)]


def curve(run: Path) -> list[float]:
    with (run / "log.csv").open(newline="") as stream:
        return [float(row["total"]) for row in csv.DictReader(stream)]


@pytest.mark.slow
def test_two_hosts_train_as_one_machine_does(hosts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_noisy_images(tmp_path / "photos")
    first, second = commands()
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "eth0", "OMP_NUM_THREADS": "1"}
    begun = [
        subprocess.Popen(
            ["ip", "netns", "exec", host, sys.executable, "-m", "torch.distributed.run", *words, *SMALL],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for host, words in zip(hosts, (first, second), strict=True)
    ]
    try:
        texts = [child.communicate(timeout=300)[0] for child in begun]
    finally:
        for child in begun:
            child.kill()
    assert [child.returncode for child in begun] == [0, 0], "\n".join(text[-3000:] for text in texts)
    assert ["trained" in text for text in texts] == [True, False], "the first process reports"
    monkeypatch.chdir(tmp_path)
    edgedenoise.train(TrainConfig.from_toml("run/config.toml").with_overrides(["out=alone"]))
    assert len(curve(tmp_path / "alone")) == 3
    assert curve(tmp_path / "run") == pytest.approx(curve(tmp_path / "alone"), rel=1e-4)
