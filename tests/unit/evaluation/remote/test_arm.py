"""An aarch64 device: Python under qemu-user, behind the real sshd. Its INT8 results are equal to those of this CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import edgedenoise
from edgedenoise.evaluation.remote.session import RemoteJob, RemotePython, run_on_hosts
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from ssh_server import SshServer

    from edgedenoise.evaluation.remote.host import Host

pytestmark = pytest.mark.slow


@pytest.fixture
def arm_python(repo_root: Path) -> RemotePython:
    python = Path(os.environ.get("EDGEDENOISE_ARM_PYTHON") or repo_root / "build" / "arm-device" / "python3")
    if not python.is_file():
        pytest.skip("no aarch64 Python on this machine; make one with: .ci/arm-device")
    return RemotePython(str(python))


def test_int8_on_arm_is_equal_to_int8_here(
    server: SshServer, host: Host, arm_python: RemotePython, folder: Path, committed_bundle: Path, tmp_path: Path
) -> None:
    for kind, name in (("noisy", "200.png"), ("clean", "200.png")):
        write_image(Image(read_image(folder / kind / name).pixels[:48, :64]), tmp_path / kind / name)
    options = ("--repeats", "1", "--threads", "1", "--out", "result.json")
    words = ("compare", "files/tiny.edge", "--noisy", "noisy", "--clean", "clean", *options)
    uploads = {"files/tiny.edge": committed_bundle, "noisy": tmp_path / "noisy", "clean": tmp_path / "clean"}
    (found,) = run_on_hosts([host], RemoteJob(words, uploads, ("compare",), "tiny.edge"), arm_python)
    assert found.error is None, found.error
    (there,) = found.runs
    here = edgedenoise.compare(committed_bundle, tmp_path / "noisy", tmp_path / "clean", repeats=1, threads=1).run
    assert there.machine.architecture == "aarch64"
    assert there.machine.id != here.machine.id
    assert there.images == here.images
    for name, exact in (("onnx-fp32", False), ("onnx-int8-u8s7", True)):
        on_arm, on_x86 = (run.variant(name) for run in (there, here))
        assert on_arm is not None
        assert on_x86 is not None
        assert on_arm.error == ""
        qualities = [variant.images[0].quality for variant in (on_arm, on_x86)]
        assert qualities[0] is not None
        assert qualities[1] is not None
        # PSNR, SSIM and the mean of each channel are sums over all pixels, so one different pixel would change them.
        assert qualities[0] == qualities[1] if exact else qualities[0].psnr_db == pytest.approx(qualities[1].psnr_db)
    assert server.left_behind(wait_s=10) == []
