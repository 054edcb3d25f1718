"""A machine with an NVIDIA GPU that is not there: a CUDA library that is compiled here, a TensorRT, an engine.

Only the vendor's side is replaced; all of our own code is the real one.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fake_tensorrt
import pytest

from edgedenoise.bundles.manifest import InputShapes, Variant
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.tensorrt import backend as trt
from edgedenoise.runtimes.tensorrt.backend import TensorRT
from edgedenoise.runtimes.tensorrt.cudart import ENVIRONMENT
from edgedenoise.runtimes.tensorrt.engine_record import EngineRecord, read_record, this_platform, write_record
from edgedenoise.runtimes.tensorrt.nvidia import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCE = Path(__file__).with_name("fake_cudart.c")
ORIN = Gpu(0, "Orin", "8.7", "12.6")
FIXED = InputShapes("fixed", [64])
RECORD = EngineRecord(
    module="tensorrt",
    version="10.3.0",
    gpu="Orin",
    compute_capability="8.7",
    driver="12.6",
    platform=this_platform(),
    graph_sha256="0" * 64,
    precision="int8",
    between="float16",
    flags=["INT8", "FP16"],
    shapes=FIXED,
    build_s=60.0,
)


@dataclass
class Cuda:
    """The compiled library, and what it wrote down."""

    library: ctypes.CDLL

    def reset(self, fail_at: int = -1) -> None:
        self.library.fake_reset(fail_at)

    @property
    def log(self) -> list[str]:
        return self.library.fake_log().decode().splitlines()

    @property
    def live(self) -> int:
        """Memory, streams and events that nobody has given back."""
        return int(self.library.fake_live())

    @property
    def on_wrong_device(self) -> int:
        """Number of calls by threads whose device is not the one that was set last."""
        return int(self.library.fake_on_wrong_device())

    @property
    def allocations(self) -> int:
        return int(self.library.fake_allocations())


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("needs a C compiler for the CUDA library that stands in")
    out = tmp_path_factory.mktemp("cuda") / "libcudart.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(out), str(SOURCE)], check=True)
    return out


@pytest.fixture
def cuda(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Cuda:
    library = ctypes.CDLL(str(compiled))
    library.fake_log.restype = ctypes.c_char_p
    monkeypatch.setenv(ENVIRONMENT, str(compiled))
    found = Cuda(library)
    found.reset()
    return found


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Make this a machine with a GPU and a TensorRT."""

    def make(gpu: Gpu | tuple[Gpu, ...] | None = ORIN, version: str | None = "10.3.0", name: str = "tensorrt") -> None:
        found = () if gpu is None else gpu if isinstance(gpu, tuple) else (gpu,)
        monkeypatch.setattr(trt, "gpus", lambda: found)
        for known in ("tensorrt", "tensorrt_lean"):
            monkeypatch.delitem(sys.modules, known, raising=False)
        if version is not None:
            monkeypatch.setitem(sys.modules, name, fake_tensorrt.module(version, name))

    make()
    return make


@pytest.fixture
def engine(tmp_path: Path) -> Callable[..., Path]:
    """Write an engine and its record."""

    def write(record: EngineRecord = RECORD, **plan: Any) -> Path:
        path = tmp_path / "engine.plan"
        path.write_text(json.dumps({"accepted": record.shapes.sides_px, **plan}))
        write_record(path, record)
        return path

    return write


def variant(shapes: InputShapes = FIXED) -> Variant:
    return Variant("tensorrt-int8", "tensorrt", "int8", "tensorrt-int8/engine.plan", shapes=shapes)


def opened(path: Path, shapes: InputShapes = FIXED, *, trust_engine: bool = False) -> CheckedSession:
    model, options = ModelFiles.read(path), SessionOptions(trust_engine=trust_engine)
    session = TensorRT().open(variant(shapes), model, "auto", options)
    return CheckedSession(session, shapes, channels=read_record(model).input_channels)
