"""Commands without file handles or permissions, or on a full disk: an error of ours with the path and the remedy."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgedenoise.bundles.archive import pack
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("resource", reason="only POSIX systems have limits per process")
pytest.importorskip("onnx", reason='pip install "edgedenoise[quantize]"')
TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"
SCRIPT = Path(__file__).resolve().parents[1] / "support" / "limited_commands.py"
REMEDIES = {"handles": "ulimit -n", "space": "Free some space", "permissions": "Check the permissions"}
READS = {"inspect", "verify", "history", "doctor"}
"""Commands that need no space."""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each command reported, by limit; without `space` where the system does not allow a mount."""
    folder = tmp_path_factory.mktemp("limits")
    shutil.copytree(TINY, folder / "b.edge")
    pack(TINY, folder / "b.zip")
    pixels = np.random.default_rng(0).integers(0, 256, (72, 80, 3), np.uint8)
    write_image(Image(pixels), folder / "noisy" / "a.png")
    (folder / "full").mkdir()
    limits = ["handles"]
    command = [sys.executable, str(SCRIPT), str(folder)]
    if os.geteuid() != 0:
        limits.append("permissions")
    elif shutil.which("setpriv") is not None:  # root reads everything, unless it gives that up
        limits.append("permissions")
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--", *command]
    in_namespace = ["unshare", "-rm", "sh", "-c", 'mount -t tmpfs -o size=8m none "$0" && exec "$@"', folder / "full"]
    if shutil.which("unshare") is not None and subprocess.run([*in_namespace, "true"], check=False).returncode == 0:
        limits.append("space")
        command = [*map(str, in_namespace), *command]
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *limits], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return {"folder": str(folder), **json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts handles as Linux lists them")
@pytest.mark.parametrize("limit", REMEDIES)
def test_what_the_system_refuses_is_an_error_of_ours(
    reports: dict[str, Any], limit: str, record_property: Callable[[str, object], None]
) -> None:
    if limit not in reports:
        pytest.skip("needs a mount in a namespace, and setpriv for root: apt-get install util-linux")
    for name, report in reports[limit].items():
        assert "internal error" not in report["output"], (name, report)
        assert "Traceback" not in report["output"], (name, report)
        if limit != "space" or name not in READS:
            assert report["code"] not in {0, None}, (name, report)
            assert REMEDIES[limit] in report["output"], (name, report)
            assert reports["folder"] in report["output"].replace("\n", ""), (name, report)
    record_property("tries", len(reports[limit]))
