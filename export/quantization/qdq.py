"""`edgedenoise quantize`: encode a QDQ graph from the stored ranges, by any scheme of `calibration/schemes.py`.

Placement: a Q/DQ pair on the activation that a Conv reads and on its weight, and on what the scheme says of sums and
joins; but the sum of image and residual, with which a student ends, stays float: in 8 bits it alone would cost half a
level. A convolution's own output gets none before its Relu, so that backends fuse the three; the last convolution's
output stays float, which costs nothing and saves half a level. Biases stay float, because the int32 form is refused by
TensorRT; for CPUs they are rounded to the grid on which kernels put them (activation scale times weight scale), so that
exact arithmetic and integer kernels agree to the last step instead of drifting apart layer by layer.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Calibration, Encoding, Variant
from edgedenoise.bundles.writer import BundleWriter, check_editable
from edgedenoise.calibration.calibrate import (
    FLOAT_VARIANT,
    TRAINED_RANGES_FILE,
    float_graph_file,
    load_onnx,
    stored_ranges,
)
from edgedenoise.calibration.calibrators import MINMAX, calibrator_named
from edgedenoise.calibration.schemes import SCHEMES, Scheme, WeightClip, encode_range, encode_weight, scheme_named
from edgedenoise.calibration.sets import CalibrationSet
from edgedenoise.errors import QuantizationError, UsageError
from edgedenoise.exporting.onnx.graph import embed, weights, with_own_constants
from edgedenoise.exporting.quantization.contracts import check_encoded
from edgedenoise.exporting.quantization.correction import Auto, BiasCorrection, Refined, check_ways, mean_shifts, refine
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.selftest import selftest_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from numpy.typing import NDArray

    from edgedenoise.calibration.histograms import Range
    from edgedenoise.calibration.ranges import Ranges
    from edgedenoise.exporting.quantization.correction import Shifts

_HELD_OUT_CROPS = 8


@dataclass(frozen=True)
class QuantizeReport:
    """How far exact W8A8 arithmetic (the oracle) is from float; kernels are checked by `verify`."""

    bundle: Path
    variant: str
    scheme: str
    selftest_db: float
    """PSNR to the float answer on the bundle's self-test image, unit range."""
    held_out_db: float | None
    """PSNR to the float answer over held-out crops of the given images; None without images."""
    size_bytes: int
    float_size_bytes: int
    weight_clip: WeightClip = "none"
    """Which was kept."""
    weight_clip_gain_db: float | None = None
    """What it gave, on held-out crops or, without images, the self-test; None where it was not tried."""
    bias_correction: BiasCorrection = "none"
    """Which was kept."""
    bias_correction_gain_db: float | None = None
    """Likewise, beside the weight clipping that was kept."""


def quantize(
    bundle: Path | str,
    *,
    scheme: str | None = None,
    calibrator: str = MINMAX.name,
    data: Path | str | None = None,
    keep_float: Collection[str] = (),
    weight_clip: WeightClip | Auto = "none",
    bias_correction: BiasCorrection | Auto = "none",
    progress: Progress = silent,
) -> QuantizeReport:
    """Encode the bundle's float graph as a QDQ graph and add it as the variant `onnx-int8-SCHEME`.

    Args:
        bundle: a calibrated bundle folder.
        scheme: one of `edgedenoise.calibration.schemes.SCHEMES`; None for what any CPU runs, because bundles travel.
        calibrator: how ranges are chosen from the stored histograms; see `calibration/calibrators.py`.
        data: images on which to measure the distance to float as well, on crops that calibration did not see.
        keep_float: outputs of layers that stay float; `quantize_to_budget` finds out which.
        weight_clip: `mse` takes weight scales of least squared error; `auto` keeps that where it measures better, on
            crops of `data` or, without, on the self-test; never for weights that were trained in 8 bits.
        bias_correction: `mean` gives each channel its mean back, measured on crops of `data`; `auto` likewise.
        progress: told after each step.

    Raises:
        CalibrationError: the bundle has no ranges.
        UsageError: there is no such scheme, calibrator, clipping or correction, or a correction lacks images.
        QuantizationError: a tensor has no range.
        ExportError: the graph breaks the scheme's contract.
    """
    check_ways(weight_clip, bias_correction)
    if bias_correction != "none" and data is None:
        raise UsageError(
            f"the bias correction {bias_correction!r} was asked for without images to measure means on",
            hint="give those that the bundle was calibrated on: --data DIR",
        )
    opened = Bundle.open(bundle)
    check_editable(opened)
    chosen = scheme_named(scheme or OnnxRuntime.schemes[0])
    ranges = stored_ranges(opened, calibrator_named(calibrator))
    path = float_graph_file(opened)
    folder = None if data is None else Path(data)
    progress("quantize", 1, 3, "distance to float")
    refined = _refined(opened, load_onnx(path), ranges, chosen, keep_float, folder, weight_clip, bias_correction)
    selftest_db = _selftest_distance(opened, refined.model)
    progress("quantize", 2, 3, "distance to float")
    held_out_db = None if folder is None else _held_out_distance(opened, refined.model, folder)
    name = f"onnx-int8-{chosen.name}"
    encoding = Encoding(
        chosen.name,
        chosen.activations,
        "s8",
        chosen.weight_bits,
        calibrator,
        list(keep_float),
        refined.weight_clip,
        refined.bias_correction,
    )
    variant = Variant(name, OnnxRuntime.name, "int8", f"{name}/model.onnx", encoding, round(selftest_db, 2))
    with BundleWriter.edit(opened) as draft:
        # Backends' own files hold the old encoding: they are compiled again from the new graph.
        draft.drop_variants(
            {v.name for v in opened.manifest.variants if v.encoding and v.encoding.scheme == chosen.name}
        )
        draft.put_variant(variant)
        embed(refined.model, draft.essentials(variant))
        check_encoded(refined.model, encoding)
        draft.write(variant.path, refined.model.SerializeToString())
    progress("quantize", 3, 3)
    return QuantizeReport(
        bundle=opened.root,
        variant=name,
        scheme=chosen.name,
        selftest_db=selftest_db,
        held_out_db=held_out_db,
        size_bytes=(opened.root / variant.path).stat().st_size,
        float_size_bytes=path.stat().st_size,
        weight_clip=refined.weight_clip,
        weight_clip_gain_db=refined.weight_clip_gain_db,
        bias_correction=refined.bias_correction,
        bias_correction_gain_db=refined.bias_correction_gain_db,
    )


def encode(
    model: onnx.ModelProto,
    ranges: Ranges,
    scheme: Scheme,
    keep_float: Collection[str] = frozenset(),
    *,
    weight_clip: WeightClip = "none",
    bias_shifts: Shifts | None = None,
) -> onnx.ModelProto:
    """Return the QDQ graph of a float graph.

    Args:
        model: float graph that obeys the graph contract.
        ranges: measured on that very graph.
        scheme: the integer encoding.
        keep_float: outputs of the Conv, Add and Concat nodes that go on reading and computing in float.
        weight_clip: see `encode_weight`.
        bias_shifts: what to add to biases of quantized convolutions, (out,) by the name of the bias.

    Raises:
        QuantizationError: a tensor that must be quantized has no range.
    """
    result = with_own_constants(model)
    graph = result.graph
    constants = weights(result)
    known = _shared_at_concat(model, ranges.tensors) if scheme.joins == "inputs" else ranges.tensors
    order = _order(model)
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
            integers, scale = encode_weight(constants[name].astype(np.float32), scheme, clip=weight_clip)
            del initializers[name]
            parameters = [
                constant(f"{name}.scale", scale),
                constant(f"{name}.zero_point", np.zeros(scale.shape, np.int8)),
            ]
            if scheme.weights_as == "integers":
                constant(f"{name}.quantized", integers)
            else:
                # Floats that lie on their grid: every parser rounds them to the same integers, and clips none.
                constant(name, integers * scale.reshape(-1, 1, 1, 1))
                nodes.append(_node("QuantizeLinear", [name, *parameters], f"{name}.quantized", axis=0))
            inputs = [f"{name}.quantized", *parameters]
            nodes.append(_node("DequantizeLinear", inputs, f"{name}.dequantized", axis=0))
            dequantized[name] = f"{name}.dequantized"
        return dequantized[name]

    def bias(name: str, activation_name: str, weight_name: str) -> str:
        values = constants[name].astype(np.float32)
        if bias_shifts and name in bias_shifts:
            values = values + bias_shifts[name]
        initializers.pop(name, None)
        if scheme.bias == "float":
            return constant(name, values)
        scales = [numpy_helper.to_array(initializers[f"{n}.scale"]) for n in (activation_name, weight_name)]
        grid = (scales[0] * scales[1]).astype(np.float32)
        return constant(f"{name}.rounded", (np.rint(values / grid) * grid).astype(np.float32))

    for original in list(graph.node):
        node = onnx.NodeProto()
        node.CopyFrom(original)
        if node.output[0] not in keep_float:
            for position in _rounded_inputs(original, scheme, order):
                node.input[position] = activation(original.input[position])
            if node.op_type == "Conv":
                node.input[1] = weight(original.input[1])
                if len(node.input) == 3:
                    node.input[2] = bias(original.input[2], original.input[0], original.input[1])
        nodes.append(node)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(initializers.values())
    return result


def quantized_layers(model: onnx.ModelProto, scheme: Scheme = SCHEMES[0]) -> list[onnx.NodeProto]:
    """Return the nodes of a float graph whose inputs `encode` quantizes, in order."""
    order = _order(model)
    return [node for node in model.graph.node if _rounded_inputs(node, scheme, order)]


def _order(model: onnx.ModelProto) -> dict[str, int]:
    """Return when each activation tensor is there: 0 for the image, then 1, 2, ..."""
    names = [model.graph.input[0].name, *(name for node in model.graph.node for name in node.output)]
    return {name: step for step, name in enumerate(names)}


def _rounded_inputs(node: onnx.NodeProto, scheme: Scheme, order: dict[str, int]) -> list[int]:
    """Return the positions of the activations that a node reads in 8 bits."""
    if node.op_type == "Conv":
        return [0]
    if any(order.get(name) == 0 for name in node.input):  # image and residual
        return []
    if node.op_type == "Add":
        # What a sum skips to is made before the branch that is added to it.
        skip = min((0, 1), key=lambda position: order[node.input[position]])
        return [0, 1] if scheme.sums == "both" else [skip]
    if node.op_type == "Concat" and scheme.joins == "inputs":
        return list(range(len(node.input)))
    return []


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


def _refined(
    bundle: Bundle,
    model: onnx.ModelProto,
    ranges: Ranges,
    scheme: Scheme,
    keep_float: Collection[str],
    data: Path | None,
    weight_clip: WeightClip | Auto,
    bias_correction: BiasCorrection | Auto,
) -> Refined:
    """Encode with the clipping and the correction that were asked for, or that measure better."""
    if bundle.has(TRAINED_RANGES_FILE):
        # Trained in 8 bits, the integers are better than float: what brings them nearer to it makes them worse.
        weight_clip = "none" if weight_clip == "auto" else weight_clip
        bias_correction = "none" if bias_correction == "auto" else bias_correction

    def encoded(clip: WeightClip, shifts: Shifts) -> onnx.ModelProto:
        return encode(model, ranges, scheme, keep_float, weight_clip=clip, bias_shifts=shifts)

    def distance_db(candidate: onnx.ModelProto) -> float:
        return _selftest_distance(bundle, candidate) if data is None else _held_out_distance(bundle, candidate, data)

    def shifts(with_shifts: Callable[[Shifts], onnx.ModelProto]) -> Shifts:
        if data is None:
            return {}
        manifest = bundle.manifest
        crops = _crops(bundle, data, held_out=False).inputs(data, manifest.normalization, manifest.tiling)
        return mean_shifts(model, with_shifts, [x for x, _ in crops], manifest.tiling.margin_px)

    return refine(encoded, distance_db, shifts, weight_clip=weight_clip, bias_correction=bias_correction)


@contextmanager
def _oracle(model: onnx.ModelProto) -> Iterator[CheckedSession]:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        variant = Variant("oracle", OnnxRuntime.name, "int8", path.name)
        with CheckedSession(OnnxRuntime().open(variant, path, "cpu", SessionOptions(fused=False))) as session:
            yield session


def _selftest_distance(bundle: Bundle, model: onnx.ModelProto) -> float:
    image, answer = selftest_pair(bundle)
    with _oracle(model) as session:
        found = run_image(session, image, bundle.manifest.normalization, bundle.manifest.tiling)
    return psnr_unit(found, answer)


def _crops(bundle: Bundle, data: Path, *, held_out: bool) -> CalibrationSet:
    """Draw crops as the calibration's were drawn, or with another seed than theirs."""
    known = bundle.manifest.calibration or Calibration(0, 0, 0)
    seed = known.seed + 1 if held_out else known.seed
    return CalibrationSet.from_folder(data, _HELD_OUT_CROPS, seed, noise_levels=known.noise_levels)


def _held_out_distance(bundle: Bundle, model: onnx.ModelProto, data: Path) -> float:
    """PSNR to float over crops that the calibration did not see."""
    manifest = bundle.manifest
    margin = manifest.tiling.margin_px
    errors, count = 0.0, 0
    with open_variant(bundle, bundle.variant(FLOAT_VARIANT), selftest=False) as reference, _oracle(model) as session:
        for x, stats in _crops(bundle, data, held_out=True).inputs(data, manifest.normalization, manifest.tiling):
            difference = (session.run(x) - reference.run(x))[0] * stats.std[:, None, None]
            inner = difference[:, margin : x.shape[2] - margin, margin : x.shape[3] - margin]
            errors += float(np.square(inner, dtype=np.float64).sum())
            count += inner.size
    return float(-10 * np.log10(errors / count)) if errors else float("inf")
