"""What import-linter cannot express: heavy imports at module level, the public face, and the folders at the top.

The layers, the cycles, and where PyTorch is used are contracts in pyproject.toml, which `make lint` checks. The
syntax trees are read here, not the modules, so nothing has to be installed.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "edgedenoise": "edgedenoise",
    "calibration": "edgedenoise.calibration",
    "export": "edgedenoise.exporting",
    "runtimes": "edgedenoise.runtimes",
}

# Heavy package -> the files that are about it, which alone may import it at module level.
ABOUT: dict[str, tuple[str, ...]] = {
    "av": (),
    "coremltools": (),
    "cv2": (),
    "imagecodecs": (),
    "jinja2": (),
    "matplotlib": (),
    "onnx": ("export/onnx/*", "export/quantization/*"),
    "onnxruntime": (),
    "onnxscript": ("export/onnx/tracing.py",),
    "openvino": (),
    "psutil": (),
    "skimage": (),
    "tensorflow": (),
    "tensorrt": (),
    "tensorrt_lean": (),
    "tensorrt_rtx": (),
    "tifffile": (),
    "torch": (
        "edgedenoise/training/*",
        "export/onnx/import_torch.py",
        "export/onnx/to_onnx.py",
        "export/onnx/tracing.py",
    ),
}
# The commands and the demo show how the public face is used; all other modules import what they need by its module.
USE_PUBLIC_FACE = ("edgedenoise/__main__.py", "edgedenoise/cli/*", "edgedenoise/demo.py")


def source_files() -> list[str]:
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in files)


def is_for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def imports_at_module_level(node: ast.AST) -> Iterator[str]:
    """Yield the names of modules that are imported when the file is: not in functions, not for types only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or is_for_types_only(child):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.level == 0:
            yield child.module or ""
        yield from imports_at_module_level(child)


def heavy_imports(source: str, file: str) -> list[str]:
    packages = [module.partition(".")[0] for module in imports_at_module_level(ast.parse(source))]
    return [
        f"{file} imports {package} at module level: import it where it is used"
        for package in packages
        if package in ABOUT and not any(fnmatch(file, pattern) for pattern in ABOUT[package])
    ]


def is_module(name: str) -> bool:
    modules = {path.stem for path in (ROOT / "edgedenoise").iterdir()} | {"calibration", "exporting", "runtimes"}
    return name in modules


def public_names_used(source: str) -> list[str]:
    """Return the public names that a file takes from `edgedenoise` itself; the version is free."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "edgedenoise":
            found += [alias.name for alias in node.names if not is_module(alias.name)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "edgedenoise":
            found.append(node.attr)
    return [name for name in found if name != "__version__"]


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    faults = [
        fault for file in source_files() for fault in heavy_imports((ROOT / file).read_text(encoding="utf-8"), file)
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import openvino.runtime", 1),
        ("try:\n    import onnx\nexcept ImportError:\n    pass", 1),
        ("class Page:\n    from skimage import data", 1),
        ("def f():\n    import openvino", 0),
        ("if TYPE_CHECKING:\n    import openvino", 0),
    ],
)
def test_heavy_imports_are_found_at_module_level(source: str, expected: int) -> None:
    assert len(heavy_imports(source, "edgedenoise/evaluation/report/page.py")) == expected


def test_only_commands_and_the_demo_use_the_public_face() -> None:
    faults = [
        f"{file} uses edgedenoise.{name}: import it from its own module"
        for file in source_files()
        if not any(fnmatch(file, pattern) for pattern in USE_PUBLIC_FACE)
        for name in public_names_used((ROOT / file).read_text(encoding="utf-8"))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("source", ["from edgedenoise import load", "import edgedenoise\nedgedenoise.load('a.edge')"])
def test_the_public_face_is_seen_however_it_is_written(source: str) -> None:
    assert public_names_used(source) == ["load"]


def test_the_package_imports_no_test_and_no_benchmark() -> None:
    faults = [
        f"{file} imports {module}"
        for file in source_files()
        for module in imports_at_module_level(ast.parse((ROOT / file).read_text(encoding="utf-8")))
        if module.partition(".")[0] in ("tests", "benchmarks", "conftest")
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(("folder", "package"), [item for item in FOLDERS.items() if item[0] != item[1]])
def test_a_folder_at_the_top_is_not_importable_by_its_own_name(
    folder: str, package: str, plain_environment: dict[str, str]
) -> None:
    """Imported as `runtimes`, its modules would exist twice, with classes that are not the same."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"],
        cwd=ROOT,
        env=plain_environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert f"import {package}" in done.stderr
