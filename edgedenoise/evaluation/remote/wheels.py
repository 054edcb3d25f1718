"""Wheels for the environment that `--install` makes on a device: given, or built from this checkout."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import edgedenoise
from edgedenoise.errors import UsageError
from edgedenoise.shell import quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

_SOURCES = ("edgedenoise", "export", "runtimes", "calibration", "pyproject.toml", "README.md", "LICENSE")
"""What a wheel is built from, in the folder of a checkout."""


def requirement(extras: Collection[str]) -> str:
    """Return what pip installs: this version of edgedenoise with extras.

    Example:
        >>> requirement(["openvino"]).startswith("edgedenoise[openvino]==")
        True
    """
    chosen = f"[{','.join(sorted(extras))}]" if extras else ""
    return f"edgedenoise{chosen}=={edgedenoise.__version__}"


@contextmanager
def wheels_folder(given: Sequence[Path]) -> Iterator[Path | None]:
    """Yield a folder with the wheels to copy to a device; None when the device installs from its package index.

    A wheel of edgedenoise is built when none is given and this is a checkout.

    Args:
        given: wheels, and folders of wheels.

    Raises:
        UsageError: a path holds no wheels, or the wheel cannot be built.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in given:
            found = sorted(path.glob("*.whl")) if path.is_dir() else [path]
            if not found or any(wheel.suffix != ".whl" or not wheel.is_file() for wheel in found):
                raise UsageError(f"--wheels is not accepted: expected wheels (*.whl) or a folder of them, got {path}")
            for wheel in found:
                shutil.copy(wheel, folder / wheel.name)
        checkout = Path(__file__).resolve().parents[3]
        if not list(folder.glob("edgedenoise-*.whl")) and (checkout / "pyproject.toml").is_file():
            _build(checkout, folder)
        yield folder if any(folder.iterdir()) else None


def _build(checkout: Path, folder: Path) -> None:
    """Build a wheel from a copy of the sources, because building writes beside them."""
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name)
        for source in _SOURCES:
            if (checkout / source).is_dir():
                shutil.copytree(checkout / source, copy / source, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(checkout / source, copy / source)
        words = ["-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        words += ["--no-build-isolation"] if _builds_here() else []
        command = [sys.executable, *words, "--wheel-dir", str(folder), str(copy)]
        done = subprocess.run(command, cwd=copy.parent, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(
            f"no wheel of edgedenoise can be built from {checkout}: {done.stderr.strip()[-500:]}",
            hint=f"Build one with: {quoted('python', '-m', 'build', checkout)}; and name it with --wheels",
        )


def _builds_here() -> bool:
    """Return whether the build backend is installed, so that pip need not fetch it."""
    try:
        return int(metadata.version("setuptools").partition(".")[0]) >= 77
    except metadata.PackageNotFoundError:
        return False
