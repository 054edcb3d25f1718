"""Which names of TensorRT's Python API our code uses, read from its syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

from edgedenoise.exporting.tensorrt import child as tensorrt_child
from edgedenoise.runtimes.tensorrt import backend as trt

SINCE = tensorrt_child.SINCE | trt.SINCE
UNTIL = tensorrt_child.UNTIL

ROOT = Path(__file__).resolve().parents[2]
FILES = ("export/tensorrt/child.py", "runtimes/tensorrt/backend.py")

# Variable (or attribute of self) -> the class of TensorRT's whose object it holds, in those files.
HOLDS = {
    "trt": "module",
    "module": "module",
    "_trt": "module",
    "kinds": "NetworkDefinitionCreationFlag",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "image": "ITensor",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "_runtime": "Runtime",
    "_engine": "ICudaEngine",
    "engine": "ICudaEngine",
    "_context": "IExecutionContext",
    "inspector": "EngineInspector",
}
ENUMERATIONS = frozenset(
    {
        "BuilderFlag",
        "DataType",
        "HardwareCompatibilityLevel",
        "LayerInformationFormat",
        "Logger",
        "MemoryPoolType",
        "NetworkDefinitionCreationFlag",
        "ProfilingVerbosity",
        "TensorIOMode",
    }
)
OURS = frozenset({"__name__", "__version__"})


def used_names() -> set[str]:
    """Return `Class.name` of everything that is used; of the module itself `module.name`."""
    found: set[str] = set()
    for file in FILES:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr not in OURS:
                owner = _owner(node.value)
                if owner is not None:
                    found.add(f"{owner}.{node.attr}")
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("hasattr", "getattr"):
                owner = _owner(node.args[0])
                if owner is not None and isinstance(node.args[1], ast.Constant):
                    found.add(f"{owner}.{node.args[1].value}")
    return found


def ever_used_names() -> set[str]:
    """Return `used_names` and those that some versions only are asked for."""
    return used_names() | set(SINCE) | set(UNTIL)


def missing(version: str, names: set[str], there: set[str]) -> set[str]:
    """Return which of `names` our code would use with a version that does not have them.

    Args:
        version: `tensorrt 10.3.0` or `tensorrt_rtx 1.7.1.116`; the latter is of the family of the newest.
        names: what is used.
        there: what the version has.
    """
    module, _, number = version.partition(" ")
    numbers = (99,) if module == "tensorrt_rtx" else tuple(int(part) for part in number.split(".")[:2])

    def applies(name: str) -> bool:
        since = tuple(int(part) for part in SINCE.get(name, "0").split("."))
        return numbers >= since and numbers[0] <= int(UNTIL.get(name, "99"))

    return {name for name in names if applies(name)} - there


def _owner(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return HOLDS.get(node.id)
    if isinstance(node, ast.Attribute):
        if node.attr in ENUMERATIONS:
            return node.attr
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return HOLDS.get(node.attr)
    return None
