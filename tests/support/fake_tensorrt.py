"""A TensorRT whose engines add one to every pixel, on the "device" memory of fake_cudart.c. Nothing of ours is here."""

from __future__ import annotations

import ctypes
import importlib.machinery
import json
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

LAYERS = [
    {
        "LayerType": "CaskConvolution",
        "Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized row major Int8"}],
    },
    {"LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
    {"LayerType": "Reformat", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
    {"LayerType": "Scale", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
]


class Context:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "image"
        self.shape = tuple(shape)
        return shape[2] in self.engine.accepted

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self.engine.ran_on.append(stream)
        count = 3 * self.shape[2] * self.shape[3]  # whatever follows the image is read by no layer
        x, y = (
            np.ctypeslib.as_array((ctypes.c_float * count).from_address(self.addresses[name]))
            for name in ("image", "denoised")
        )
        y[:] = x + 1
        return not self.engine.fails


class Engine:
    """What the plan says: `{"accepted": [sides], "names": [...]}`."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.accepted = plan.get("accepted", [64])
        self.names = plan.get("names", ["image", "denoised"])
        self.fails = plan.get("fails", False)
        self.no_context = plan.get("no_context", False)
        self.layers = plan.get("layers", LAYERS)
        self.num_io_tensors = len(self.names)
        self.ran_on: list[int] = []

    def get_tensor_name(self, index: int) -> str:
        return str(self.names[index])

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "image" else "out"

    def get_tensor_dtype(self, name: str) -> str:
        return "float"

    def create_execution_context(self) -> Context | None:
        return None if self.no_context else Context(self)

    def create_engine_inspector(self) -> SimpleNamespace:
        return SimpleNamespace(get_engine_information=lambda kind: json.dumps({"Layers": self.layers}))


class Logger:
    WARNING = 1

    def __init__(self, level: int) -> None:
        self.level = level


class Runtime:
    def __init__(self, logger: Logger) -> None:
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        return Engine(json.loads(plan)) if plan.startswith(b"{") else None


def module(version: str = "10.3.0", name: str = "tensorrt") -> ModuleType:
    """Return a module as `import tensorrt` would give."""
    made = ModuleType(name)
    made.__spec__ = importlib.machinery.ModuleSpec(name, None)
    made.__version__ = version  # type: ignore[attr-defined]
    made.Logger, made.Runtime = Logger, Runtime  # type: ignore[attr-defined]
    made.TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")  # type: ignore[attr-defined]
    made.DataType = SimpleNamespace(FLOAT="float")  # type: ignore[attr-defined]
    made.LayerInformationFormat = SimpleNamespace(JSON="json")  # type: ignore[attr-defined]
    return made
