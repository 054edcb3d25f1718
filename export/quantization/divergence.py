"""Find the first layer of a QDQ graph that a backend computes differently from exact arithmetic.

The graph is cut behind one layer after another. Each piece runs on the backend, fused, and in the reference execution
(node by node in float, exact W8A8). A piece ends behind the Q/DQ pair of its layer, so that it is fused as in the whole
graph: a convolution that ends in float would run on other kernels and hide the fault. All layers are checked in order,
because bisection could skip the faulty one in a network with branches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.bundles.manifest import Variant
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.errors import IncompatibleError
from edgedenoise.runtimes.base import DEFAULT_OPTIONS, INPUT_NAME, OUTPUT_NAME, SessionOptions
from edgedenoise.runtimes.device_names import AUTO
from edgedenoise.runtimes.onnxruntime import reference

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx
    from numpy.typing import NDArray

    from edgedenoise.runtimes.base import Backend
    from edgedenoise.runtimes.bounds import ReferenceBound

_LAYERS = frozenset({"Conv", "Add", "Concat"})
_LEVELS = 255


def reference_bound(scheme: str, backend: Backend, graph: onnx.ModelProto | None) -> ReferenceBound | None:
    """Return a backend's bound for a scheme, or None where the backend states none.

    Args:
        scheme: name of the encoding.
        backend: what runs the variant.
        graph: the QDQ graph; None where it cannot be read, which gets the larger bound.
    """
    bounds = backend.error_bounds.get(scheme)
    if bounds is None:
        return None
    return bounds.with_sums if graph is None or has_quantized_sums(graph) else bounds.plain


def has_quantized_sums(graph: onnx.ModelProto) -> bool:
    """Return whether an Add or a Concat of a QDQ graph reads rounded values."""
    rounded = {node.output[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"}
    return any(node.op_type in ("Add", "Concat") and rounded & set(node.input) for node in graph.graph.node)


@dataclass(frozen=True)
class Layer:
    """A layer of a QDQ graph, and where the graph is cut to examine it."""

    name: str
    """Name of its output, which is the same in the float graph."""
    op_type: str
    cut: str
    """Name of the tensor that the piece outputs."""


@dataclass(frozen=True)
class Divergence:
    """The first layer at which a backend exceeds the bound on its distance to the reference execution."""

    layer: str
    """Name of the layer's output, the same in the float graph."""
    op_type: str
    psnr_db: float
    """PSNR of the layer's values to the reference, the peak being the width of the reference values' range."""
    max_error_lsb: float
    """Maximum absolute error, in 255ths of that range."""
    number: int
    """Position of the layer in the graph; the first is 1."""
    of: int
    """Number of layers."""

    def __str__(self) -> str:
        """Return the layer and its distance in one clause."""
        return (
            f"the first layer that differs is {self.layer} ({self.op_type}, {self.number} of {self.of}):"
            f" {self.psnr_db:.1f} dB, maximum absolute error {self.max_error_lsb:.1f} of {_LEVELS} levels"
        )


def first_divergence(
    graph: onnx.ModelProto,
    x: NDArray[np.float32],
    on_backend: Callable[[Layer], NDArray[np.float32]],
    bound: ReferenceBound,
) -> Divergence | None:
    """Return the first layer whose values on a backend are farther from the reference than a bound allows.

    Args:
        graph: QDQ graph that obeys the graph contract.
        x: (1, C, h, w), the input of the graph.
        on_backend: function that returns the values of a layer for `x` on the backend; see `pieces_on`.
        bound: bound of each layer, in units of the width of its own range.

    Returns:
        The layer; None when every layer is close enough.

    Raises:
        InferenceError: the reference execution cannot run a piece.
    """
    layers = layers_of(graph)
    for number, layer in enumerate(layers, start=1):
        exact = reference.run(cut_behind(graph, layer.cut).SerializeToString(), {INPUT_NAME: x})[OUTPUT_NAME]
        found = on_backend(layer)
        psnr_db, max_error_lsb = _distance(found, exact)
        if not bound.holds(psnr_db, max_error_lsb):
            return Divergence(layer.name, layer.op_type, psnr_db, max_error_lsb, number, len(layers))
    return None


def pieces_on(
    backend: Backend,
    variant: Variant | None,
    graph: onnx.ModelProto,
    x: NDArray[np.float32],
    *,
    options: SessionOptions = DEFAULT_OPTIONS,
) -> Callable[[Layer], NDArray[np.float32]]:
    """Return a function that runs the graph up to a layer on a backend.

    Args:
        backend: backend that opens ONNX files.
        variant: variant that the graph belongs to; None for an encoding without special kernels.
        graph: QDQ graph.
        x: (1, C, h, w), the input of the graph.
        options: options of the session.

    Raises:
        IncompatibleError: the backend opens no ONNX files, so no part of a graph can be run on it.
    """
    if not backend.opens_onnx:
        raise IncompatibleError(
            f"{backend.label} opens no parts of an ONNX graph, so the first layer that differs cannot be searched there"
        )
    described = variant or Variant("piece", backend.name, "int8", "piece.onnx")

    def run(layer: Layer) -> NDArray[np.float32]:
        piece = ModelFiles.of_bytes("piece.onnx", cut_behind(graph, layer.cut).SerializeToString())
        # Not a CheckedSession: the output of a piece does not have the channels of an image.
        session = backend.open(described, piece, AUTO, options)
        try:
            return session.run(x)
        finally:
            session.close()

    return run


def layers_of(graph: onnx.ModelProto) -> list[Layer]:
    """Return the layers of a QDQ graph in order of execution, each with the tensor to cut behind."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def behind(name: str) -> str:
        """Follow a layer's output through its activation and its Q/DQ pair, which backends fuse with it."""
        found = readers.get(name, [])
        if len(found) == 1 and found[0].op_type in ("Relu", "Clip", "QuantizeLinear", "DequantizeLinear"):
            return behind(str(found[0].output[0]))
        # A tensor that is also read in float (a skip) is rounded for its other readers by one pair.
        pairs = [node for node in found if node.op_type == "QuantizeLinear"]
        return behind(str(pairs[0].output[0])) if pairs else name

    nodes = [node for node in graph.graph.node if node.op_type in _LAYERS]
    return [Layer(str(node.output[0]), str(node.op_type), behind(str(node.output[0]))) for node in nodes]


def cut_behind(graph: onnx.ModelProto, tensor: str) -> onnx.ModelProto:
    """Return the part of a graph that one tensor depends on, with that tensor as its output."""
    import onnx

    needed = {tensor}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.graph.node):
        if needed & set(node.output):
            needed |= set(node.input)
            nodes.insert(0, node)
    piece = onnx.ModelProto()
    piece.CopyFrom(graph)
    del piece.graph.node[:], piece.graph.initializer[:], piece.graph.output[:]
    piece.graph.node.extend(nodes)
    piece.graph.initializer.extend(t for t in graph.graph.initializer if t.name in needed)
    for node in piece.graph.node:
        node.output[:] = [OUTPUT_NAME if name == tensor else name for name in node.output]
    piece.graph.output.append(onnx.helper.make_tensor_value_info(OUTPUT_NAME, onnx.TensorProto.FLOAT, None))
    return piece


def _distance(found: NDArray[np.float32], exact: NDArray[np.float32]) -> tuple[float, float]:
    """Return (PSNR in dB, largest difference in levels), the peak being the width of the exact values' range."""
    # Zero is in every encoded range (zero padding must be exact), so it is in this width too.
    width = max(float(exact.max()), 0.0) - min(float(exact.min()), 0.0)
    difference = np.abs(found - exact).astype(np.float64)
    error = float(np.square(difference).mean())
    if error == 0:
        return float("inf"), 0.0
    if width == 0:
        return float("-inf"), float("inf")
    return float(10 * np.log10(width**2 / error)), float(difference.max() / width * _LEVELS)
