"""The vectors of runtimes/conformance are what this package computes, and TypeScript computes the same."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "runtimes" / "conformance"
WEB = ROOT / "runtimes" / "web"
COMMAND = "python tools/conformance_vectors.py"
TYPES = {"u8": "<u1", "u16": "<u2", "f32": "<f4"}
FLOAT_TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("conformance_vectors", ROOT / "tools" / "conformance_vectors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def computed(script: Any) -> dict[str, bytes]:
    return script.vectors()


def array_at(content: bytes, placed: dict[str, Any]) -> np.ndarray:
    kind = np.dtype(TYPES[placed["type"]])
    count = int(np.prod(placed["shape"]))
    return np.frombuffer(content, kind, count, placed["offset"]).reshape(placed["shape"])


def check_same(found: Any, wanted: Any, found_arrays: bytes, wanted_arrays: bytes, where: str, *, exact: bool) -> None:
    """Check that two values of vectors agree: integers and texts are equal, floats nearly so."""
    assert type(found) is type(wanted), where
    if isinstance(wanted, dict) and "offset" in wanted:
        assert found == wanted, where
        one, other = array_at(found_arrays, found), array_at(wanted_arrays, wanted)
        if one.dtype.kind == "f":
            np.testing.assert_allclose(one, other, atol=FLOAT_TOLERANCE, rtol=0, err_msg=where)
        else:
            # A float kernel of another CPU may change a value beside a rounding tie.
            assert int(np.abs(one.astype(np.int64) - other).max()) <= (0 if exact else 1), where
    elif isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key, value in wanted.items():
            check_same(found[key], value, found_arrays, wanted_arrays, f"{where}.{key}", exact=exact)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for number, value in enumerate(wanted):
            check_same(found[number], value, found_arrays, wanted_arrays, f"{where}[{number}]", exact=exact)
    elif isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=FLOAT_TOLERANCE), where
    else:
        assert found == wanted, where


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.json")))
def test_the_committed_vectors_are_what_python_computes(name: str, computed: dict[str, bytes]) -> None:
    committed = json.loads((FOLDER / f"{name}.json").read_bytes())
    found = json.loads(computed[f"{name}.json"])
    arrays = (FOLDER / "arrays.bin").read_bytes()
    assert found.keys() == committed.keys()
    for section, cases in committed.items():
        assert len(found[section]) == len(cases)
        for number, case in enumerate(cases):
            exact = name != "networks" or (case["precision"] == "int8" and case["answer"]["type"] == "u8")
            where = f"{name}.{section}[{number}]"
            check_same(found[section][number], case, computed["arrays.bin"], arrays, f"{where}; {COMMAND}", exact=exact)


def test_every_vector_is_committed(computed: dict[str, bytes]) -> None:
    committed = {path.name for path in FOLDER.iterdir()} - {"README.md"}
    assert committed == computed.keys(), COMMAND
    assert sum((FOLDER / name).stat().st_size for name in committed) < 1 << 20


def test_the_weights_in_typescript_are_those_of_python(script: Any) -> None:
    assert script.WEIGHTS.read_text(encoding="utf-8") == script.estimator_weights(), COMMAND


@pytest.fixture(scope="module")
def npm() -> list[str]:
    """The command that runs npm's scripts, where `make web` has installed the packages."""
    if not (WEB / "node_modules" / "vitest").is_dir():
        pytest.skip("the TypeScript library needs Node and its packages; install them with: make web")
    return [str(ROOT / ".ci" / "npm"), "run", "--silent"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["typecheck", "test"])
def test_typescript(name: str, npm: list[str]) -> None:
    """The strict type check and the tests of the library pass; they include these vectors."""
    environment = {**os.environ, "CI": "1", "NO_COLOR": "1"}
    done = subprocess.run([*npm, name], capture_output=True, text=True, check=False, timeout=600, env=environment)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


@pytest.mark.slow
def test_the_typescript_of_the_guide_compiles(npm: list[str], tmp_path: Path) -> None:
    """Every block of docs/guides/website.md in TypeScript passes the strict type check."""
    guide = (ROOT / "docs" / "guides" / "website.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```ts\n(.*?)```", guide, re.DOTALL)
    assert len(blocks) >= 2
    for number, block in enumerate(blocks):
        (tmp_path / f"block{number}.ts").write_text(block, encoding="utf-8")
    modules = WEB / "node_modules"
    # The ambient types of the project belong to the sources that the blocks import.
    ambient = [WEB / "src" / "*.d.ts", modules / "vite" / "client.d.ts", modules / "@types" / "node" / "index.d.ts"]
    settings = {
        "extends": str(WEB / "tsconfig.json"),
        "compilerOptions": {"noEmit": True, "types": [], "paths": {"edgedenoise": [str(WEB / "src" / "index.ts")]}},
        "include": [f"{tmp_path}/*.ts", *map(str, ambient)],
    }
    (tmp_path / "tsconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    run = [npm[0], "exec", "--", "tsc", "-p", str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
