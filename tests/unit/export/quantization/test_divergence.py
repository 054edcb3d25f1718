"""Every backend is held to exact W8A8 within stated bounds, and one that leaves it is told at which layer it does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from graphs import branched_graph, shuffling_graph
from measuring import measure_ranges
from onnx import numpy_helper

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Variant
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.bundles.pretrained import shipped
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import IncompatibleError
from edgedenoise.exporting.quantization.divergence import (
    cut_behind,
    first_divergence,
    layers_of,
    pieces_on,
    reference_bound,
)
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.bounds import ReferenceBound, SchemeBounds
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.registry import registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgedenoise.exporting.verify import VerifyReport

SUPPORT = Path(__file__).resolve().parents[3] / "support"
TINY = Path(__file__).resolve().parents[3] / "fixtures" / "tiny.edge"
BOUNDS = {
    (scheme, name): bounds for name, backend in registry.items() for scheme, bounds in backend.error_bounds.items()
}
TIES = BOUNDS["u8s7", "onnxruntime"].plain
X: NDArray[np.float32] = np.random.default_rng(0).random((1, 3, 48, 40), np.float32)

# ---------------------------------------------------------------- stated bounds


@pytest.fixture(scope="module", params=["tiny", "edge-tiny"])
def verified(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VerifyReport:
    """A bundle in every scheme on every runtime here: a C-BSN, which has sums, and a student, which is one chain."""
    pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")
    source = TINY if request.param == "tiny" else shipped(request.param)
    root = shutil.copytree(source, tmp_path_factory.mktemp("bounds") / f"{request.param}.edge")
    for scheme in dict.fromkeys(scheme for scheme, _ in BOUNDS):
        edgedenoise.quantize(root, scheme=scheme)
    edgedenoise.compile(root, target="openvino")
    return edgedenoise.verify(root)


@pytest.mark.parametrize(("scheme", "runtime"), BOUNDS)
def test_every_scheme_on_every_runtime_is_within_its_stated_bound(
    verified: VerifyReport, scheme: str, runtime: str
) -> None:
    check = next((c for c in verified.variants if c.runtime == runtime and c.variant.endswith(scheme)), None)
    if check is None:
        pytest.skip(f"{runtime} is tested where it is built: test_tensorrt.py, test_coreml.py")
    if check.status == "not run":
        pytest.skip(f"{check.variant} cannot run here: {check.reason}")
    assert check.reference_psnr_db is not None
    assert check.reference_max_error_lsb is not None
    bounds = BOUNDS[scheme, runtime]
    bound = bounds.with_sums if Path(verified.bundle).name == "tiny.edge" else bounds.plain
    assert bound.holds(check.reference_psnr_db, check.reference_max_error_lsb), check
    assert check.divergence is None
    assert check.reason == ""


def test_what_a_runtime_is_given_by_default_has_a_bound() -> None:
    assert {(backend.schemes[0], name) for name, backend in registry.items()} <= set(BOUNDS)


def test_a_chain_is_held_to_more_than_a_network_with_sums(qdq: onnx.ModelProto) -> None:
    chain = shuffling_graph()
    encoded = encode(chain, measure_ranges(chain, [X], margin_px=6), scheme_named("u8s7"))
    bounds = BOUNDS["u8s7", "openvino"]
    openvino = registry["openvino"]
    assert reference_bound("u8s7", openvino, encoded) == bounds.plain
    assert reference_bound("u8s7", openvino, qdq) == bounds.with_sums
    assert reference_bound("u8s7", openvino, None) == bounds.with_sums  # without onnx, the graph cannot be read
    assert reference_bound("s8s8", openvino, encoded) is None
    assert bounds.plain.min_psnr_db > bounds.with_sums.min_psnr_db


# ---------------------------------------------------------------- the first layer


@pytest.fixture(scope="module")
def qdq() -> onnx.ModelProto:
    model = branched_graph()
    ranges = measure_ranges(model, [X], margin_px=4)
    return encode(model, ranges, scheme_named("u8s7"))


def altered(graph: onnx.ModelProto, constant: str, change: float) -> onnx.ModelProto:
    """A copy in which the first number of a constant is multiplied: it plays a backend that computes it wrongly."""
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    tensor = next(t for t in copy.graph.initializer if t.name == constant)
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = values.flat[0] * change
    tensor.CopyFrom(numpy_helper.from_array(values, constant))
    return copy


@pytest.mark.parametrize("layer", ["head", "left", "inner", "right", "denoised"])
@pytest.mark.parametrize("constant", ["weight.scale", "bias.rounded"])
def test_the_layer_that_is_wrong_is_named(qdq: onnx.ModelProto, layer: str, constant: str) -> None:
    backend = pieces_on(OnnxRuntime(), None, altered(qdq, f"{layer}.{constant}", 4), X)
    found = first_divergence(qdq, X, backend, TIES)
    assert found is not None
    assert (found.layer, found.op_type) == (layer, "Conv")
    assert found.psnr_db < TIES.min_psnr_db or found.max_error_lsb > TIES.max_error_lsb
    assert layers_of(qdq)[found.number - 1].name == layer
    assert f"the first layer that differs is {layer} (Conv, {found.number} of {found.of})" in str(found)


def test_a_branch_that_is_right_does_not_hide_one_that_is_wrong(qdq: onnx.ModelProto) -> None:
    # `right` is computed after `left` and exact: halving the list of layers there would look behind it.
    names = [layer.name for layer in layers_of(qdq)]
    assert names.index("left") < names.index("right")
    found = first_divergence(qdq, X, pieces_on(OnnxRuntime(), None, altered(qdq, "left.weight.scale", 4), X), TIES)
    assert found is not None
    assert found.layer == "left"


def test_a_sound_backend_diverges_nowhere(qdq: onnx.ModelProto) -> None:
    assert first_divergence(qdq, X, pieces_on(OnnxRuntime(), None, qdq, X), TIES) is None


def test_a_piece_gives_what_the_whole_graph_computes_there(qdq: onnx.ModelProto) -> None:
    layers = layers_of(qdq)
    assert [layer.name for layer in layers] == ["head", "left", "inner", "summed", "right", "joined", "denoised"]
    whole = OnnxRuntime()
    oracle = SessionOptions(fused=False)
    last = pieces_on(whole, None, qdq, X, options=oracle)(layers[-1])
    assert layers[-1].cut == "denoised"
    # The first layer's values are those that its readers get: after its Relu and its Q/DQ pair.
    first = pieces_on(whole, None, qdq, X, options=oracle)(layers[0])
    assert first.shape == (1, 8, 48, 40)
    assert first.min() == 0
    assert len(np.unique(first)) <= 256
    uncut = cut_behind(qdq, "denoised")
    assert [node.name for node in uncut.graph.node] == [node.name for node in qdq.graph.node]
    assert last.shape == X.shape


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx", "coreml"])
def test_what_opens_no_onnx_files_cannot_be_searched(qdq: onnx.ModelProto, name: str) -> None:
    backend = registry[name]
    with pytest.raises(IncompatibleError, match=f"{backend.label} opens no parts of an ONNX graph"):
        pieces_on(backend, None, qdq, X)


def test_verify_reports_where_a_variant_cannot_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand for a backend that opens its own files only, and computes something else."""
    root = shutil.copytree(TINY, tmp_path / "b.edge")
    monkeypatch.setattr(OnnxRuntime, "opens_onnx", False)
    monkeypatch.setattr(OnnxRuntime, "label", "Abacus")
    strict = SchemeBounds(*[ReferenceBound(float("inf"), 0.0, "")] * 2)
    monkeypatch.setattr(OnnxRuntime, "error_bounds", {"u8s7": strict})
    check = {c.variant: c for c in edgedenoise.verify(root).variants}["onnx-int8-u8s7"]
    assert check.divergence is None
    assert "Abacus opens no parts of an ONNX graph, so the first layer that differs cannot be searched" in check.reason


def test_a_piece_is_fused_as_the_whole_is(qdq: onnx.ModelProto) -> None:
    layer = next(layer for layer in layers_of(qdq) if layer.name == "inner")
    piece = ModelFiles.of_bytes("piece.onnx", cut_behind(qdq, layer.cut).SerializeToString())
    fusion = OnnxRuntime().fusion(Variant("piece", "onnxruntime", "int8", piece.name), piece)
    assert fusion is not None
    assert (fusion.convolutions, fusion.in_float) == (3, 0)


# ---------------------------------------------------------------- verify


def test_verify_names_the_layer_that_a_variant_gets_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shutil.copytree(TINY, tmp_path / "b.edge")
    bundle = Bundle.open(root)
    path = bundle.variant_file(bundle.variant("onnx-int8-u8s7"))
    graph = onnx.load(path)
    wrong = layers_of(graph)[5]
    conv = next(node for node in graph.graph.node if node.output[0] == wrong.name)
    scale = conv.input[1].replace(".dequantized", ".scale")
    right_open = OnnxRuntime.open

    def broken(self, variant, files, device, options):
        """Stand for kernels that are wrong at one layer: whatever is opened fused has one scale too large."""
        if options.fused and variant.precision == "int8":
            model = onnx.load_model_from_string(files.data)
            if any(t.name == scale for t in model.graph.initializer):
                files = ModelFiles.of_bytes("broken.onnx", altered(model, scale, 4).SerializeToString())
        return right_open(self, variant, files, device, options)

    monkeypatch.setattr(OnnxRuntime, "open", broken)
    check = {c.variant: c for c in edgedenoise.verify(root).variants}["onnx-int8-u8s7"]
    assert check.divergence is not None
    assert check.divergence.layer == wrong.name
    assert f"the first layer that differs is {wrong.name}" in check.reason


_SATURATED = """
import sys
from pathlib import Path
import numpy as np
import onnx
from graphs import saturating_graph
from measuring import measure_ranges
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.exporting.quantization.divergence import first_divergence, pieces_on, reference_bound
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.bundles.manifest import Encoding, Variant
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.openvino.backend import OpenVino

model = saturating_graph()
x = (0.8 + 0.2 * np.random.default_rng(0).random((1, 3, 64, 64))).astype(np.float32)
ranges = measure_ranges(model, [x], margin_px=4)
for name in ("u8s8", "u8s7"):
    scheme = scheme_named(name)
    graph = encode(model, ranges, scheme)
    variant = Variant("q", "openvino", "int8", "", Encoding(name, "u8", "s8", scheme.weight_bits))
    backend = pieces_on(OpenVino(), variant, graph, x, options=SessionOptions(protect_saturation=False))
    found = first_divergence(graph, x, backend, reference_bound(name, OpenVino(), graph))
    print("none" if found is None else f"{found.layer} {found.psnr_db:.1f}")
"""


def test_a_layer_that_saturates_is_named_and_seven_bits_do_not_saturate() -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")
    if "avx2" not in (Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""):
        pytest.skip("needs an x86 CPU with AVX2 under Linux")
    # oneDNN is told to leave newer instructions alone: its products of bytes are then those of a CPU without VNNI.
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": str(SUPPORT)}
    done = subprocess.run(
        [sys.executable, "-c", _SATURATED], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    eight, seven = done.stdout.splitlines()
    layer, psnr_db = eight.split()
    assert layer == "head"
    assert float(psnr_db) < 30
    assert seven == "none"
