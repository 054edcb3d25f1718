"""Packages lean on packages to their left only, and nothing heavy is loaded before it is needed.

The syntax trees are read, not the modules: imports inside functions count, and nothing has to be installed.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Left to right. A package imports from its own level and from those above it in this table.
# A pattern with `*` is a package split over several files.
LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors", "extras", "files", "progress", "tables"),
    ("imaging", "noise", "bundles"),
    ("runtimes",),
    ("datacheck", "calibration"),
    ("exporting",),
    ("denoiser",),
    ("evaluation", "batch"),
    ("demo", "doctor"),
    ("cli",),
)
# Beside the row: it may use everything up to calibration, and only these files may use it.
TRAINING = "training"
TRAINING_LEVEL = 3
USE_TRAINING = (
    "edgedenoise/cli/evaluate.py",
    "edgedenoise/cli/import_tf.py",
    "edgedenoise/cli/train.py",
    "edgedenoise/demo.py",
    "export/onnx/to_onnx.py",
)
# The doors of the package: they name everything, lazily (test_light_import.py), and are no package.
DOORS = ("edgedenoise/__init__.py", "edgedenoise/__main__.py")

TORCH_LIVES_IN = ("edgedenoise/training/*", "export/onnx/to_onnx.py")
# Heavy package -> the files that are about it, which alone may import it at module level.
ABOUT: dict[str, tuple[str, ...]] = {
    "coremltools": (),
    "imagecodecs": (),
    "jinja2": (),
    "matplotlib": (),
    "onnx": ("export/onnx/graph.py", "export/quantization/qdq.py", "export/onnx/to_onnx.py"),
    "onnxscript": ("export/onnx/to_onnx.py",),
    "openvino": (),
    "skimage": (),
    "tensorflow": (),
    "tensorrt": (),
    "tensorrt_lean": (),
    "tensorrt_rtx": (),
    "tifffile": (),
    "torch": TORCH_LIVES_IN,
}

FOLDERS = {"edgedenoise": "edgedenoise", "calibration": "edgedenoise.calibration"}
FOLDERS |= {"export": "edgedenoise.exporting", "runtimes": "edgedenoise.runtimes"}


@dataclass(frozen=True)
class Import:
    file: str
    """Path from the repository root."""
    line: int
    module: str
    """Absolute dotted name; `from a import b` is `a.b`, so that sub-modules are seen."""
    at_module_level: bool
    for_types_only: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]

    @property
    def room(self) -> str:
        """The package of edgedenoise that is imported; '' for the package itself."""
        return room_of_module(self.module)

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


@cache
def public_names() -> dict[str, str]:
    """Public name -> the module that it is loaded from."""
    tree = ast.parse((ROOT / "edgedenoise/__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_PUBLIC":
            return dict(ast.literal_eval(node.value))
    raise LookupError("edgedenoise/__init__.py has no literal table _PUBLIC")


def room_of_module(module: str) -> str:
    """`edgedenoise.exporting.onnx.graph` is in `exporting`; a public name is where it is loaded from."""
    room = module.split(".")[1] if "." in module else ""
    if room in public_names():
        return room_of_module(public_names()[room])
    return "" if room.startswith("__") else room


def room_of_file(file: str) -> str:
    parts = Path(file).with_suffix("").parts
    return parts[1] if parts[0] == "edgedenoise" else FOLDERS[parts[0]].rpartition(".")[2]


def level_of(room: str) -> int | None:
    if room == TRAINING:
        return TRAINING_LEVEL
    for level, patterns in enumerate(LEVELS):
        if any(fnmatch(room, pattern) for pattern in patterns):
            return level
    return None


def source_files() -> list[str]:
    files = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return sorted(path.relative_to(ROOT).as_posix() for path in files)


def _resolve(node: ast.ImportFrom, file: str) -> str:
    """Return the absolute name of what follows `from`."""
    if node.level == 0:
        return node.module or ""
    folder = Path(file).parent.parts
    package = [*FOLDERS[folder[0]].split("."), *folder[1:]]
    package = package[: len(package) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


class _Visitor(ast.NodeVisitor):
    def __init__(self, file: str) -> None:
        self.file = file
        self.imports: list[Import] = []
        self._functions = 0
        self._types_only = 0

    def _add(self, node: ast.stmt | ast.expr, module: str) -> None:
        self.imports.append(Import(self.file, node.lineno, module, self._functions == 0, self._types_only > 0))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._add(node, f"{_resolve(node, self.file)}.{alias.name}")

    def visit_Call(self, node: ast.Call) -> None:
        is_import = ast.unparse(node.func) in ("importlib.import_module", "import_module", "__import__")
        if is_import and node.args and isinstance(node.args[0], ast.Constant):
            self._add(node, str(node.args[0].value))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        """`edgedenoise.load` imports where it is written, because public names are loaded on first use."""
        if isinstance(node.value, ast.Name) and node.value.id == "edgedenoise" and node.attr in public_names():
            self._add(node, f"edgedenoise.{node.attr}")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        types_only = ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        self._types_only += types_only
        for child in node.body:
            self.visit(child)
        self._types_only -= types_only
        for child in node.orelse:
            self.visit(child)

    def _visit_function(self, node: ast.AST) -> None:
        self._functions += 1
        self.generic_visit(node)
        self._functions -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _visit_function


def imports_in(source: str, file: str) -> list[Import]:
    visitor = _Visitor(file)
    visitor.visit(ast.parse(source, filename=file))
    return visitor.imports


@cache
def all_imports() -> tuple[Import, ...]:
    return tuple(
        found for file in source_files() for found in imports_in((ROOT / file).read_text(encoding="utf-8"), file)
    )


def faults_of_direction(imports: tuple[Import, ...]) -> list[str]:
    faults = []
    for found in imports:
        if found.package != "edgedenoise" or found.file in DOORS or not found.room:
            continue
        own, other = room_of_file(found.file), found.room
        if own == other:
            continue
        if other == TRAINING:
            if found.file not in USE_TRAINING:
                faults.append(f"{found}, but only {', '.join(USE_TRAINING)} use training")
            continue
        own_level, other_level = level_of(own), level_of(other)
        if own_level is not None and other_level is not None and other_level > own_level:
            faults.append(f"{found}: {own} stands to the left of {other} and cannot lean on it")
    return faults


def faults_of_weight(imports: tuple[Import, ...]) -> list[str]:
    return [
        f"{found} at module level: import it where it is used, or name the file in ABOUT if it is about it"
        for found in imports
        if found.package in ABOUT
        and found.at_module_level
        and not found.for_types_only
        and not any(fnmatch(found.file, pattern) for pattern in ABOUT[found.package])
    ]


def test_every_module_has_a_level() -> None:
    unknown = [file for file in source_files() if file not in DOORS and level_of(room_of_file(file)) is None]
    assert not unknown, (
        f"{', '.join(unknown)} stands in no package. Decide what it may lean on, add it to a level of LEVELS "
        "in tests/project/test_imports.py and to 'Packages' in docs/architecture.md."
    )


def test_every_level_has_a_module() -> None:
    rooms = {room_of_file(file) for file in source_files()}
    gone = [pattern for level in LEVELS for pattern in level if "*" not in pattern and pattern not in rooms]
    assert not gone, f"LEVELS in tests/project/test_imports.py lists packages that are not there: {', '.join(gone)}"


def test_rooms_lean_on_rooms_to_their_left_only() -> None:
    faults = faults_of_direction(all_imports())
    assert not faults, "\n".join(faults)


def test_torch_lives_in_training_and_the_exporter_only() -> None:
    strays = [
        str(found)
        for found in all_imports()
        if found.package == "torch" and not any(fnmatch(found.file, pattern) for pattern in TORCH_LIVES_IN)
    ]
    assert not strays, "\n".join(strays)


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    faults = faults_of_weight(all_imports())
    assert not faults, "\n".join(faults)


def test_tests_and_benchmarks_are_not_imported_by_the_package() -> None:
    strays = [str(found) for found in all_imports() if found.package in ("tests", "benchmarks", "conftest")]
    assert not strays, "\n".join(strays)


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("edgedenoise/imaging/tiling.py", "from edgedenoise.denoiser import load"),
        ("edgedenoise/imaging/tiling.py", "from edgedenoise import denoiser"),
        ("edgedenoise/imaging/tiling.py", "from edgedenoise import load"),
        ("edgedenoise/imaging/tiling.py", "import edgedenoise\nedgedenoise.load('a.edge')"),
        ("edgedenoise/imaging/tiling.py", "def f():\n    import edgedenoise.denoiser"),
        ("edgedenoise/imaging/tiling.py", "if TYPE_CHECKING:\n    from edgedenoise.denoiser import load"),
        ("edgedenoise/imaging/tiling.py", "importlib.import_module('edgedenoise.denoiser')"),
        ("runtimes/onnxruntime/backend.py", "from ...exporting import graph"),
        ("edgedenoise/training/data/patches.py", "from edgedenoise.exporting import graph"),
        ("edgedenoise/batch.py", "from edgedenoise.training.loop.trainer import train"),
        ("edgedenoise/batch.py", "from edgedenoise import train"),
        ("edgedenoise/cli/denoise.py", "edgedenoise.train(config)"),
    ],
)
def test_a_wrong_direction_is_seen_however_it_is_written(file: str, source: str) -> None:
    assert faults_of_direction(tuple(imports_in(source, file)))


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("edgedenoise/imaging/tiling.py", "from edgedenoise import __version__\nimport edgedenoise"),
        ("edgedenoise/denoiser.py", "from edgedenoise.imaging.tiling import plan_tiles"),
        ("runtimes/onnxruntime/backend.py", "from .base import Session"),
        ("export/onnx/to_onnx.py", "from edgedenoise.training.checkpoint import load_network"),
        ("edgedenoise/training/data/patches.py", "from edgedenoise.calibration import sets"),
    ],
)
def test_a_right_direction_is_allowed(file: str, source: str) -> None:
    assert not faults_of_direction(tuple(imports_in(source, file)))


def test_weight_counts_at_module_level_and_not_for_types() -> None:
    def weigh(source: str) -> list[str]:
        return faults_of_weight(tuple(imports_in(source, "edgedenoise/evaluation/report/page.py")))

    assert weigh("import openvino.runtime")
    assert weigh("try:\n    import onnx\nexcept ImportError:\n    pass")
    assert weigh("class Page:\n    from skimage import data")
    assert not weigh("def f():\n    import openvino")
    assert not weigh("if TYPE_CHECKING:\n    import openvino")
