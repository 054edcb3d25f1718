"""`edgedenoise quantize`: encode a QDQ graph from the stored ranges.

Placement, the same for every CPU: a Q/DQ pair on each activation that a Conv, Add or Concat reads, and on each
convolution's weight; but the sum of image and residual, with which a student ends, stays float: in 8 bits it alone
would cost half a level. A convolution's own output gets none before its Relu, so that backends fuse the three; the last
convolution's output stays float, which costs nothing and saves half a level. Biases stay float, because the int32 form
is refused by TensorRT; they are rounded to the grid on which CPU kernels put them (activation scale times weight
scale), so that exact arithmetic and integer kernels agree to the last step instead of drifting apart layer by layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedenoise.bundle import Bundle
from edgedenoise.calibration.calibrate import FLOAT_VARIANT, float_graph_file, load_onnx, stored_ranges
from edgedenoise.calibration.calibrators import MINMAX, calibrator_named
from edgedenoise.calibration.schemes import Scheme, encode_range, encode_weight, scheme_named
from edgedenoise.calibration.sets import CalibrationSet
from edgedenoise.errors import QuantizationError
from edgedenoise.export.graph import check_graph, embed, weights
from edgedenoise.export.targets import open_variant, target_named
from edgedenoise.manifest import Calibration, Encoding, Variant
from edgedenoise.metrics import psnr_unit
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import CheckedSession, SessionOptions
from edgedenoise.runtimes.ort import OnnxRuntime
from edgedenoise.runtimes.pipeline import run_picture
from edgedenoise.runtimes.selftest import selftest_pair

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from edgedenoise.calibration.histograms import Range
    from edgedenoise.calibration.ranges import Ranges

_QUANTIZED_READERS = frozenset({"Conv", "Add", "Concat"})
_HELD_OUT_CROPS = 8


@dataclass(frozen=True)
class QuantizeReport:
    """How far exact W8A8 arithmetic (the oracle) is from float; kernels are checked by `verify`."""

    bundle: Path
    variant: str
    scheme: str
    selftest_db: float
    """PSNR to the float answer on the bundle's self-test picture, unit range."""
    held_out_db: float | None
    """PSNR to the float answer over held-out crops of the given photographs; None without photographs."""
    size_bytes: int
    float_size_bytes: int


def quantize_model(
    bundle: Path | str,
    *,
    scheme: str | None = None,
    calibrator: str = MINMAX.name,
    data: Path | str | None = None,
    keep_float: Collection[str] = (),
    progress: Progress = silent,
) -> QuantizeReport:
    """Encode the bundle's float graph as a QDQ graph and add it as the variant `onnx-int8-SCHEME`.

    Args:
        bundle: a calibrated bundle folder.
        scheme: one of `edgedenoise.calibration.schemes.SCHEMES`; None for what ONNX Runtime's row in
            `edgedenoise.export.targets` names.
        calibrator: how ranges are chosen from the stored histograms; see `calibration/calibrators.py`.
        data: photographs on which to measure the distance to float as well, on crops that calibration did not see.
        keep_float: outputs of layers that stay float; `quantize_to_budget` finds out which.
        progress: told after each step.

    Raises:
        CalibrationError: the bundle has no ranges.
        UsageError: there is no such scheme or calibrator.
        QuantizationError: a tensor has no range.
    """
    opened = Bundle.open(bundle)
    opened.check_editable()
    chosen = scheme_named(scheme or target_named(OnnxRuntime.name).scheme)
    ranges = stored_ranges(opened, calibrator_named(calibrator))
    path = float_graph_file(opened)
    model = encode(load_onnx(path), ranges, chosen, keep_float)
    name = f"onnx-int8-{chosen.name}"
    encoding = Encoding(chosen.name, chosen.activations, "s8", chosen.weight_bits, calibrator, list(keep_float))
    variant = Variant(name, OnnxRuntime.name, "int8", f"{name}/model.onnx", encoding)
    progress("quantize", 1, 3, "distance to float")
    with opened.edit() as draft:
        # Backends' own files hold the old encoding: they are compiled again from the new graph.
        draft.drop_variants(
            {v.name for v in opened.manifest.variants if v.encoding and v.encoding.scheme == chosen.name}
        )
        draft.write(variant.path, model.SerializeToString())
        options = SessionOptions(fused=False)
        with CheckedSession(OnnxRuntime().open(variant, draft.root / variant.path, "cpu", options)) as oracle:
            selftest_db = _selftest_distance(opened, oracle)
            progress("quantize", 2, 3, "distance to float")
            held_out_db = None if data is None else _held_out_distance(opened, oracle, Path(data))
        variant = msgspec.structs.replace(variant, fidelity_db=round(selftest_db, 2))
        draft.put_variant(variant)
        embed(model, draft.essentials(variant))
        check_graph(model, quantized=True)
        draft.write(variant.path, model.SerializeToString())
    progress("quantize", 3, 3)
    return QuantizeReport(
        bundle=opened.root,
        variant=name,
        scheme=chosen.name,
        selftest_db=selftest_db,
        held_out_db=held_out_db,
        size_bytes=(opened.root / variant.path).stat().st_size,
        float_size_bytes=path.stat().st_size,
    )


def encode(
    model: onnx.ModelProto, ranges: Ranges, scheme: Scheme, keep_float: Collection[str] = frozenset()
) -> onnx.ModelProto:
    """Return the QDQ graph of a float graph.

    Args:
        model: float graph that obeys the graph contract.
        ranges: measured on that very graph.
        scheme: the integer encoding.
        keep_float: outputs of the Conv, Add and Concat nodes that go on reading and computing in float.

    Raises:
        QuantizationError: a tensor that must be quantized has no range.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    constants = weights(model)
    known = _shared_at_concat(model, ranges.tensors)
    nodes: list[onnx.NodeProto] = []
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    dequantized: dict[str, str] = {}

    def constant(name: str, values: NDArray[np.generic] | np.generic) -> str:
        initializers[name] = numpy_helper.from_array(np.asarray(values), name)
        return name

    def activation(name: str) -> str:
        """Give a tensor its Q/DQ pair, once, and return the name to read it by."""
        if name not in dequantized:
            if name not in known:
                raise QuantizationError(f"the tensor {name} has no calibrated range", hint="calibrate the bundle again")
            scale, zero = encode_range(known[name].low, known[name].high, scheme)
            parameters = [constant(f"{name}.scale", scale), constant(f"{name}.zero_point", zero)]
            nodes.append(_node("QuantizeLinear", [name, *parameters], f"{name}.quantized"))
            nodes.append(_node("DequantizeLinear", [f"{name}.quantized", *parameters], f"{name}.dequantized"))
            dequantized[name] = f"{name}.dequantized"
        return dequantized[name]

    def weight(name: str) -> str:
        if name not in dequantized:
            integers, scale = encode_weight(constants[name].astype(np.float32), scheme)
            del initializers[name]
            inputs = [
                constant(f"{name}.quantized", integers),
                constant(f"{name}.scale", scale),
                constant(f"{name}.zero_point", np.zeros(scale.shape, np.int8)),
            ]
            nodes.append(_node("DequantizeLinear", inputs, f"{name}.dequantized", axis=0))
            dequantized[name] = f"{name}.dequantized"
        return dequantized[name]

    def bias(name: str, activation_name: str, weight_name: str) -> str:
        scales = [numpy_helper.to_array(initializers[f"{n}.scale"]) for n in (activation_name, weight_name)]
        grid = (scales[0] * scales[1]).astype(np.float32)
        initializers.pop(name, None)
        return constant(f"{name}.rounded", (np.rint(constants[name] / grid) * grid).astype(np.float32))

    for original in model.graph.node:
        node = onnx.NodeProto()
        node.CopyFrom(original)
        if node.output[0] in keep_float:
            pass
        elif node.op_type == "Conv":
            node.input[0], node.input[1] = activation(node.input[0]), weight(node.input[1])
            if len(node.input) == 3:
                node.input[2] = bias(original.input[2], original.input[0], original.input[1])
        elif node.op_type in _QUANTIZED_READERS and model.graph.input[0].name not in node.input:
            for position, name in enumerate(node.input):
                node.input[position] = activation(name)
        nodes.append(node)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers.values())
    return result


def quantized_layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes of a float graph whose inputs `encode` quantizes, in order."""
    image = model.graph.input[0].name
    return [
        node
        for node in model.graph.node
        if node.op_type == "Conv" or (node.op_type in _QUANTIZED_READERS and image not in node.input)
    ]


def _shared_at_concat(model: onnx.ModelProto, measured: dict[str, Range]) -> dict[str, Range]:
    """Give a Concat's inputs and output one range: joining is then exact and costs nothing on any backend."""
    known = dict(measured)
    for node in model.graph.node:
        if node.op_type == "Concat" and all(name in known for name in node.input):
            joint = known[node.input[0]]
            for name in node.input[1:]:
                joint = joint.union(known[name])
            known.update(dict.fromkeys([*node.input, *node.output], joint))
    return known


def _node(op_type: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, [output], name=output, **attributes)


def _selftest_distance(bundle: Bundle, session: CheckedSession) -> float:
    picture, answer = selftest_pair(bundle)
    found = run_picture(session, picture, bundle.manifest.normalization, bundle.manifest.tiling)
    return psnr_unit(found, answer)


def _held_out_distance(bundle: Bundle, session: CheckedSession, data: Path) -> float:
    """PSNR to float over crops drawn with another seed than the calibration's."""
    manifest = bundle.manifest
    known = manifest.calibration or Calibration(0, 0, 0)
    crops = CalibrationSet.from_folder(data, _HELD_OUT_CROPS, known.seed + 1, noise_levels=known.noise_levels)
    margin = manifest.tiling.margin_px
    errors, count = 0.0, 0
    with open_variant(bundle, bundle.variant(FLOAT_VARIANT), prove=False) as reference:
        for x, stats in crops.inputs(data, manifest.normalization, manifest.tiling):
            difference = (session.run(x) - reference.run(x))[0] * stats.std[:, None, None]
            inner = difference[:, margin : x.shape[2] - margin, margin : x.shape[3] - margin]
            errors += float(np.square(inner, dtype=np.float64).sum())
            count += inner.size
    return float(-10 * np.log10(errors / count)) if errors else float("inf")
