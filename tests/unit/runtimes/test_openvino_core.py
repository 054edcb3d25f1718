"""A process that has used OpenVINO still handles signals, whatever was closed before."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")

from edgedenoise.runtimes.openvino.core import shared_core

if TYPE_CHECKING:
    from pathlib import Path

TWO_SESSIONS = """
import gc, os, signal, sys
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.openvino.backend import OpenVino
signal.signal(signal.SIGINT, signal.default_int_handler)
bundle = Bundle.open(sys.argv[1])
variant = bundle.variant("onnx-fp32")
files = ModelFiles.read(bundle.variant_file(variant))
first, second = (OpenVino().open_session(variant, files, "cpu", SessionOptions()) for _ in range(2))
first.close()
second.close()
del first, second
gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("handled")
"""


def test_there_is_one_core_in_a_process() -> None:
    assert shared_core() is shared_core()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_is_handled_after_two_sessions_were_closed(committed_bundle: Path) -> None:
    """Two cores left a stack for signal handlers that no longer existed: a segmentation fault."""
    command = [sys.executable, "-c", TWO_SESSIONS, str(committed_bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.strip()) == (0, "handled"), done.stderr
