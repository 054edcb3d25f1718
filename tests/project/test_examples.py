"""The Example of every docstring runs, and every public name has one.

Examples run in a folder that holds what a user would have:

- `photos/` and `clean/`: eight noisy images and their ground truth, of the same names;
- `photo.png`: one of the noisy images;
- `mine.edge`: a bundle with the variants onnx-fp32 and onnx-int8-u8s7;
- `runs/mine`: a checkpoint folder made by `train`;
- `authors/CBSN.ckpt`: a TensorFlow checkpoint of the C-BSN authors' code;
- `port.safetensors`: weights of C-BSN by the names of its PyTorch port.
"""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import inspect
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from images import write_pairs

import edgedenoise

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "edgedenoise": "edgedenoise",
    "calibration": "edgedenoise.calibration",
    "export": "edgedenoise.exporting",
    "runtimes": "edgedenoise.runtimes",
}
"""Folder -> package that it is installed as."""
NEEDS = {
    "onnx": (
        ".calibrate(",
        ".compile(",
        ".export_noise_level(",
        ".import_onnx(",
        ".quantize(",
        ".quantize_to_budget(",
        ".verify(",
    ),
    "openvino": ('target="openvino"',),
    "tensorflow": (".import_tf(",),
    "torch": ("runs/mine", ".import_torch(", ".train("),
    "watchfiles": (".watch(",),
}
"""Package -> texts of examples that run only where it is installed."""
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
PUBLIC = [name for name in edgedenoise.__all__ if name != "__version__"]


@dataclass(frozen=True)
class Example:
    """A docstring with lines of `>>>`."""

    name: str
    module: str
    docstring: str
    file: Path
    line: int


def examples() -> Iterator[Example]:
    for folder, package in PACKAGES.items():
        for file in sorted((ROOT / folder).rglob("*.py")):
            text = file.read_text(encoding="utf-8")
            if ">>>" not in text:
                continue
            parts = file.relative_to(ROOT / folder).with_suffix("").parts
            module = ".".join([package, *(part for part in parts if part != "__init__")])
            yield from documented(ast.parse(text), module, module, file)


def documented(tree: ast.AST, name: str, module: str, file: Path) -> Iterator[Example]:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(tree, kinds) and ">>>" in (docstring := ast.get_docstring(tree) or ""):
        yield Example(name, module, docstring, file, getattr(tree.body[0], "lineno", 1))
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, kinds):
            yield from documented(child, f"{name}.{getattr(child, 'name', '')}", module, file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What examples run in, made once; see the first lines of this file."""
    folder = tmp_path_factory.mktemp("examples")
    write_pairs(folder / "photos", folder / "clean", 8)
    shutil.copy(folder / "photos" / "0.png", folder / "photo.png")
    shutil.copytree(ROOT / "tests" / "fixtures" / "tiny.edge", folder / "mine.edge")
    shutil.copytree(ROOT / "tests" / "unit" / "training" / "fixtures" / "tf_checkpoint_8x2", folder / "authors")
    if importlib.util.find_spec("torch"):
        from cbsn_port import CentrePort
        from safetensors.torch import save_file

        save_file(CentrePort().state_dict(), folder / "port.safetensors")
    return folder


@pytest.fixture(scope="module")
def folder_with_run(folder: Path) -> Path:
    pytest.importorskip("torch", reason='to train, install: pip install "edgedenoise[train]"')
    edgedenoise.train(
        edgedenoise.TrainConfig.named("cbsn-24x4").with_overrides(
            [
                "network=cbsn-6x1",
                f"data={folder / 'photos'}",
                f"out={folder / 'runs' / 'mine'}",
                "steps=2",
                "patch=40",
                "data_check=off",
                "device=cpu",
            ]
        )
    )
    return folder


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.name)
def test_an_example_runs(
    example: Example, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package, texts in NEEDS.items():
        if any(text in example.docstring for text in texts):
            pytest.importorskip(package, reason=f"the example needs the package {package}")
    needs_run = "runs/mine" in example.docstring
    work = tmp_path / "work"
    shutil.copytree(request.getfixturevalue("folder_with_run" if needs_run else "folder"), work)
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    namespace = dict(vars(importlib.import_module(example.module)))
    test = doctest.DocTestParser().get_doctest(
        example.docstring, namespace, example.name, str(example.file), example.line
    )
    output: list[str] = []
    result = doctest.DocTestRunner(optionflags=FLAGS, verbose=False).run(test, out=output.append)
    assert result.failed == 0, "".join(output)


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_has_a_tested_example(name: str) -> None:
    value = getattr(edgedenoise, name)
    methods = [one for key, one in vars(value).items() if not key.startswith("_")] if inspect.isclass(value) else []
    sections = [(inspect.getdoc(one) or "").partition("\nExample:\n")[2] for one in (value, *methods)]
    assert any(sections), f"edgedenoise.{name} has no section 'Example:'"
    for section in filter(None, sections):
        assert ">>>" in section, f"the Example of edgedenoise.{name} has no lines of >>>"
        assert "+SKIP" not in section, f"the Example of edgedenoise.{name} is not run"


@pytest.mark.parametrize("name", [name for name in PUBLIC if inspect.isfunction(getattr(edgedenoise, name))])
def test_a_public_function_documents_its_arguments_and_result(name: str) -> None:
    function: Any = getattr(edgedenoise, name)
    docstring = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    if signature.return_annotation not in (None, "None"):
        assert "\nReturns:\n" in docstring, f"edgedenoise.{name} has no section 'Returns:'"
    arguments = docstring.partition("\nArgs:\n")[2].partition("\n\n")[0]
    missing = [each for each in signature.parameters if f"{each}: " not in arguments]
    assert not missing, f"edgedenoise.{name} does not document {', '.join(missing)}"
