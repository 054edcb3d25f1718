"""Commands without file handles, and on a full disk: an error of ours with the path and the remedy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgedenoise.bundles.archive import pack
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

pytest.importorskip("resource", reason="only POSIX systems have limits per process")
pytest.importorskip("onnx", reason='pip install "edgedenoise[quantize]"')
TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
SCRIPT = Path(__file__).resolve().parents[1] / "support" / "limited_commands.py"
REMEDIES = {"handles": "ulimit -n", "space": "Free some space"}
WRITES = {"denoise", "pack", "unpack", "quantize"}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts handles as Linux lists them")
@pytest.mark.parametrize("limit", ["handles", "space"])
def test_what_the_system_refuses_is_an_error_of_ours(tmp_path: Path, limit: str) -> None:
    shutil.copytree(TINY, tmp_path / "b.edge")
    pack(TINY, tmp_path / "b.zip")
    write_image(Image(np.zeros((40, 40, 3), np.uint8)), tmp_path / "noisy" / "a.png")
    (tmp_path / "full").mkdir()
    command = [sys.executable, str(SCRIPT), str(tmp_path), limit]
    if limit == "space":
        if shutil.which("unshare") is None:
            pytest.skip("unshare is not installed: apt-get install util-linux")
        mount = 'mount -t tmpfs -o size=8m none "$0" && exec "$@"'
        command = ["unshare", "-rm", "sh", "-c", mount, str(tmp_path / "full"), *command]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if "mount:" in done.stderr or "unshare:" in done.stderr:
        pytest.skip(f"the system does not allow a mount in a namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    reports = json.loads(done.stdout.splitlines()[-1])
    for name, report in reports.items():
        assert "internal error" not in report["output"], (name, report)
        assert "Traceback" not in report["output"], (name, report)
        if limit == "handles" or name in WRITES:
            assert report["code"] not in {0, None}, (name, report)
            assert REMEDIES[limit] in report["output"], (name, report)
            assert str(tmp_path) in report["output"].replace("\n", ""), (name, report)
