"""Importing edgedenoise, or showing help, loads nothing heavy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Packages for training, export and reports, which a device may not have.
HEAVY = frozenset(
    {
        "av",
        "coremltools",
        "cv2",
        "imagecodecs",
        "jinja2",
        "matplotlib",
        "onnx",
        "onnxruntime",
        "onnxscript",
        "openvino",
        "safetensors",
    }
    | {"scipy", "skimage", "tensorboard", "tensorflow", "tensorrt", "tifffile", "torch"}
)

IMPORT = "import edgedenoise"
NAMES = "import edgedenoise; dir(edgedenoise); edgedenoise.EdgeDenoiseError; edgedenoise.Bundle"
LOAD = "import edgedenoise; edgedenoise.load; edgedenoise.denoise_files"
# Show the help of every command in one process, and see what was loaded.
HELP = """
import contextlib, io, sys
from typer.main import get_command
from edgedenoise.cli import app, main
for words in [[], *([command] for command in get_command(app).commands)]:
    sys.argv = ["edgedenoise", *words, "--help"]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main()
"""


def modules_after(code: str, environment: dict[str, str]) -> set[str]:
    """Return the modules that `code` loads in addition to those of a bare interpreter."""
    report = "; import json; print(json.dumps(sorted(set(sys.modules) - bare)))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; bare = set(sys.modules)\n{code}\nimport sys{report}"],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_loading_a_bundle_imports_nothing_that_only_exports(plain_environment: dict[str, str]) -> None:
    loaded = modules_after("import edgedenoise; edgedenoise.load('edge-tiny').close()", plain_environment)
    assert "edgedenoise.runtimes.registry" in loaded
    assert not {name for name in loaded if name.startswith(("edgedenoise.exporting", "edgedenoise.calibration"))}


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(IMPORT, id="import edgedenoise"),
        pytest.param(NAMES, id="light public names"),
        pytest.param(LOAD, id="load"),
        pytest.param(HELP, id="edgedenoise --help and every command's"),
    ],
)
def test_nothing_heavy_is_loaded(code: str, plain_environment: dict[str, str]) -> None:
    loaded = {module.partition(".")[0] for module in modules_after(code, plain_environment)}
    assert not loaded & HEAVY


def test_the_help_of_commands_needs_no_arrays_and_no_bars(plain_environment: dict[str, str]) -> None:
    """`--help` takes a fifth of a second (benchmarks/startup.py) as long as it loads none of these."""
    loaded = {module.partition(".")[0] for module in modules_after(HELP, plain_environment)}
    assert not loaded & {"numpy", "PIL", "rich", "filelock"}


def test_importing_the_package_loads_a_handful_of_modules(plain_environment: dict[str, str]) -> None:
    """Modules are counted, because times depend on the load of the machine."""
    loaded = modules_after(IMPORT, plain_environment)
    own = {module for module in loaded if module.startswith("edgedenoise")}
    assert own == {"edgedenoise"}
    assert "numpy" not in loaded
    assert len(loaded) < 40
