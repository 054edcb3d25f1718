"""The packages and data files listed in pyproject.toml are those on disk, and no name is taken twice."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]

# Packages that edgedenoise works with, or may later, and that ".[dev]" does not install.
NOT_INSTALLED = frozenset(
    {
        "coremltools",
        "matplotlib",
        "ncnn",
        "nncf",
        "psutil",
        "pynvml",
        "ray",
    }
    | {"tensorrt", "tf2onnx"}
)
# Installed by ".[dev]"; named here because no dependency list mentions their import names.
INSTALLED_FOR_TESTS = frozenset({"tensorboard", "tensorflow"})
# Folders beside the Python packages whose sources are not installed.
OTHER_LANGUAGES = ("runtimes/web", "runtimes/conformance")
BUILT = "web/dist/"
"""Beginning of the data files that `make web` builds: they are installed where they are there."""


@cache
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@cache
def setuptools_table() -> dict[str, Any]:
    table: dict[str, Any] = pyproject()["tool"]["setuptools"]
    return table


def packages_on_disk() -> dict[str, Path]:
    """Dotted name -> folder, for every folder with an __init__.py under the mapped roots."""
    found = {}
    for name, folder in setuptools_table()["package-dir"].items():
        root = ROOT / folder
        for init in root.rglob("__init__.py"):
            below = init.parent.relative_to(root).parts
            found[".".join([name, *below])] = init.parent
    return found


def modules_on_disk() -> dict[str, Path]:
    """Dotted name -> file, for every module and every package."""
    modules = {name: folder / "__init__.py" for name, folder in packages_on_disk().items()}
    for name, folder in packages_on_disk().items():
        modules |= {f"{name}.{file.stem}": file for file in folder.glob("*.py") if not file.stem.startswith("__")}
    return modules


def third_party_names() -> set[str]:
    """Import names of everything that the package itself depends on, extras included but for `dev`."""
    project = pyproject()["project"]
    extras = {name: wants for name, wants in project["optional-dependencies"].items() if name != "dev"}
    requirements = [*project["dependencies"], *(want for wants in extras.values() for want in wants)]
    distributions = {re.split(r"[^A-Za-z0-9_.-]", want)[0].lower() for want in requirements} - {"edgedenoise"}
    imported = importlib.metadata.packages_distributions()
    installed = {name for name, owners in imported.items() if distributions & {owner.lower() for owner in owners}}
    return installed | NOT_INSTALLED | INSTALLED_FOR_TESTS


def test_packages_listed_are_the_packages_on_disk() -> None:
    listed = setuptools_table()["packages"]
    on_disk = sorted(packages_on_disk())
    assert sorted(listed) == on_disk, "[tool.setuptools] packages in pyproject.toml and the folders differ"
    assert len(listed) == len(set(listed))


def test_every_folder_with_modules_is_a_package() -> None:
    """A folder without __init__.py works from a checkout and is missing from the wheel."""
    packages = set(packages_on_disk().values())
    roots = [ROOT / folder for folder in setuptools_table()["package-dir"].values()]
    strays = {file.parent for root in roots for file in root.rglob("*.py")} - packages
    assert not strays


def test_every_listed_data_file_exists() -> None:
    for package, patterns in setuptools_table()["package-data"].items():
        folder = packages_on_disk()[package]
        committed = [pattern for pattern in patterns if not pattern.startswith(BUILT)]
        missing = [pattern for pattern in committed if not list(folder.glob(pattern))]
        assert not missing, f"package-data of {package} names files that are not there: {missing}"


def test_every_data_file_is_listed() -> None:
    """`include-package-data` is off: a file that is not listed is missing from the wheel."""
    promised = {
        file
        for package, patterns in setuptools_table()["package-data"].items()
        for pattern in patterns
        for file in packages_on_disk()[package].glob(pattern)
        if file.is_file()
    }
    present = {
        file
        for folder in packages_on_disk().values()
        for file in folder.rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc") and not file.name.startswith(".")
    }
    others = {file for file in present if any(file.is_relative_to(ROOT / folder) for folder in OTHER_LANGUAGES)}
    assert present - others == promised - others


def test_no_module_has_a_third_party_name() -> None:
    """A module `onnxruntime.py` would be imported instead of the library by tools run in its folder.

    Folders are exempt: each backend has a folder of its name, and imports are absolute.
    """
    names = third_party_names()
    assert {"numpy", "PIL", "onnx", "torch", "skimage"} <= names  # the look-up itself works
    modules = modules_on_disk().keys() - packages_on_disk().keys()
    taken = [name for name in modules if "." in name and name.rpartition(".")[2] in names]
    assert not taken


@pytest.mark.parametrize("package", sorted(packages_on_disk()))
def test_no_public_name_is_a_submodule_too(package: str) -> None:
    """`from edgedenoise import export` would be a function or a module: whichever came last."""
    public = set(getattr(importlib.import_module(package), "__all__", ()))
    submodules = {name.rpartition(".")[2] for name in modules_on_disk() if name.rpartition(".")[0] == package}
    assert not public & submodules


def test_no_two_public_classes_have_one_name() -> None:
    """A name stands for one thing in the whole package, so that a reader of an error or a report can find it."""
    found: dict[str, list[str]] = {}
    for module, path in modules_on_disk().items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(module)
    assert not {name: modules for name, modules in found.items() if len(modules) > 1}


def test_every_installed_module_is_the_file_in_this_tree() -> None:
    """The editable install uses this tree, so that the tests test these files."""
    for name in sorted(packages_on_disk()):
        module = importlib.import_module(name)
        assert Path(module.__file__ or "").resolve() == modules_on_disk()[name].resolve()


def test_the_version_is_the_first_in_the_changelog() -> None:
    version = importlib.import_module("edgedenoise").__version__
    headings = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings[:1] == [version]


def test_every_direct_dependency_is_pinned() -> None:
    """Every dependency has a tested version in constraints.txt."""
    project = pyproject()["project"]
    wants = [
        *project["dependencies"],
        *(want for extra in project["optional-dependencies"].values() for want in extra),
    ]
    names = {re.split(r"[^A-Za-z0-9_.-]", want)[0].lower().replace("_", "-") for want in wants} - {"edgedenoise"}
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower() for line in lines if "==" in line}
    assert names <= pinned
