"""The true thing, wherever a GPU and TensorRT are: `pytest -m gpu tests/gpu`.

Built on this GPU, held to the float output and to exact W8A8, tiles equal to the whole, layers counted by the
inspector. Latencies are printed, not judged (`-s` shows them): benchmarks do that.
"""

from __future__ import annotations

import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.pretrained import shipped
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.denoiser import load, load_variant
from edgedenoise.errors import IncompatibleError
from edgedenoise.runtimes.job import BuildOptions
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.registry import registry
from edgedenoise.runtimes.tensorrt.engine_record import read_record, write_record
from edgedenoise.runtimes.timing import time_in_turns

pytest.importorskip("onnx", reason="needs onnx: pip install 'edgedenoise[quantize]'")


if TYPE_CHECKING:
    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.runtimes.checked import CheckedSession

pytestmark = pytest.mark.gpu
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
TILE_PX = 256


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt-rtx"])
def target(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    found = registry[name].probe()
    if not found.available:
        pytest.skip(f"{name} cannot run here: {found.reason}")
    return name


@pytest.fixture(scope="module", params=["edge", "C-BSN"])
def bundle(request: pytest.FixtureRequest, target: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Everything built that the target can be given."""
    source = FIXTURES / "tiny.edge" if request.param == "C-BSN" else shipped("edge")
    root = Path(shutil.copytree(source, tmp_path_factory.mktemp("gpu") / "net.edge"))
    edgedenoise.quantize(root, scheme="s8s8")
    for precision in registry[target].precisions:
        edgedenoise.compile(root, target=target, precision=precision, options=BuildOptions(tile=TILE_PX))
    return Bundle.open(root)


def milliseconds(session: CheckedSession, x: np.ndarray) -> float:
    start = time.perf_counter()
    session.run(x)
    return 1e3 * (time.perf_counter() - start)


def variants(bundle: Bundle, target: str) -> list[Variant]:
    return [v for v in bundle.manifest.variants if v.runtime == target]


def test_every_precision_runs_and_keeps_its_numbers(bundle: Bundle, target: str) -> None:
    checks = {c.variant: c for c in edgedenoise.verify(bundle.root).variants}
    for variant in variants(bundle, target):
        check = checks[variant.name]
        assert (check.status, check.state) == ("passed", "tested on hardware"), check
        assert check.divergence is None


def test_tiles_equal_the_whole_picture(bundle: Bundle, target: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (300, 420, 3), dtype=np.uint8)
    name = variants(bundle, target)[0].name
    with load_variant(bundle, name) as tiled, load_variant(bundle, "onnx-fp32") as whole:
        difference = np.abs(tiled(image).astype(int) - whole(image).astype(int))
    assert difference.max() <= 1  # another backend's float rounding, never a seam


def test_integers_are_where_they_should_be(bundle: Bundle, target: str) -> None:
    variant = next(v for v in variants(bundle, target) if v.precision == "int8")
    runtime = registry[target]
    fusion = runtime.fusion(variant, bundle.model_files(variant))
    if fusion is None:
        pytest.skip("this TensorRT's inspector gives names only")
    assert fusion.convolutions > 0
    assert fusion.convolutions - fusion.in_float >= fusion.convolutions * 0.8


def test_latency_is_printed(bundle: Bundle, target: str) -> None:
    x = np.random.default_rng(0).random((1, 3, TILE_PX, TILE_PX), np.float32)
    sessions = {v.name: open_variant(bundle, v) for v in variants(bundle, target)}
    try:
        times = time_in_turns(
            {name: partial(milliseconds, session, x) for name, session in sessions.items()}, 20
        ).samples
    finally:
        for session in sessions.values():
            session.close()
    for name, taken in times.items():
        sys.stdout.write(f"{name}: {np.median(taken):.2f} ms for {TILE_PX}x{TILE_PX}\n")


def test_an_engine_of_another_machine_is_refused(bundle: Bundle, target: str, tmp_path: Path) -> None:
    root = Path(shutil.copytree(bundle.root, tmp_path / "moved.edge"))
    variant = variants(bundle, target)[0]
    engine = root / variant.path
    record = read_record(engine)
    with BundleWriter.edit(Bundle.open(root)) as draft:
        write_record(draft.root / variant.path, type(record)(**{**_fields(record), "version": "0.0.1"}))
    with pytest.raises(IncompatibleError, match=r"built by .* 0\.0\.1, here is"):
        open_variant(Bundle.open(root), variant)


def test_auto_prefers_the_engine(bundle: Bundle, target: str) -> None:
    with load(bundle.root) as denoiser:
        assert denoiser.effective.runtime == target


def _fields(record: object) -> dict[str, object]:
    return {name: getattr(record, name) for name in record.__struct_fields__}  # type: ignore[attr-defined]
