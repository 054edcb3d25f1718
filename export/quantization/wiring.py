"""How the nodes of a QDQ graph are connected: what makes and what reads each tensor, seen through Q/DQ pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edgedenoise.exporting.onnx.graph import weights

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx
    from numpy.typing import NDArray

QUANTIZE: Final = "QuantizeLinear"
DEQUANTIZE: Final = "DequantizeLinear"


@dataclass(frozen=True)
class Wiring:
    """The maker and the readers of each tensor."""

    nodes: list[onnx.NodeProto]
    """Nodes in order."""
    constants: dict[str, NDArray[Any]]
    """Constants by name."""
    makers: dict[str, onnx.NodeProto]
    """Node that computes a tensor, by the name of the tensor."""
    readers: dict[str, list[onnx.NodeProto]]
    """Nodes that read a tensor, by the name of the tensor."""
    image: str
    """Name of the input."""
    output: str
    """Name of the output."""

    @classmethod
    def of(cls, model: onnx.ModelProto) -> Wiring:
        """Return the wiring of a graph."""
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        return cls(
            nodes=list(model.graph.node),
            constants=weights(model),
            makers={name: node for node in model.graph.node for name in node.output},
            readers=readers,
            image=model.graph.input[0].name,
            output=model.graph.output[0].name,
        )

    def of_type(self, *op_types: str) -> Iterator[onnx.NodeProto]:
        """Return the nodes of some operators, in order."""
        return (node for node in self.nodes if node.op_type in op_types)

    def made_by(self, name: str, op_type: str) -> onnx.NodeProto | None:
        """Return the node that computes a tensor, if it is of that operator."""
        node = self.makers.get(name)
        return node if node is not None and node.op_type == op_type else None

    def dequantizer(self, name: str) -> onnx.NodeProto | None:
        """Return the dequantizer that computes a tensor, or None."""
        return self.made_by(name, DEQUANTIZE)

    def tensor(self, node: onnx.NodeProto) -> str:
        """Return what a quantizer or dequantizer stands for: the float tensor, or the constant of integers."""
        before = self.made_by(node.input[0], QUANTIZE)
        return str(node.input[0] if before is None else before.input[0])

    def source(self, name: str) -> str:
        """Return the tensor behind a name, looking through its Q/DQ pair."""
        node = self.dequantizer(name)
        return name if node is None else self.tensor(node)

    def is_image(self, name: str) -> bool:
        """Return whether a name stands for the image, for its colours alone, or for either behind a Q/DQ pair."""
        source = self.source(name)
        colours = self.made_by(source, "Slice")
        return self.image == (source if colours is None else self.source(colours.input[0]))

    def is_bias(self, node: onnx.NodeProto) -> bool:
        """Return whether a node computes the bias of a convolution."""
        return any(r.op_type == "Conv" and list(r.input[2:]) == [node.output[0]] for r in self.readers_of(node))

    def readers_of(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the nodes that read what a node computes."""
        return self.readers.get(node.output[0], [])

    def quantizers(self) -> Iterator[tuple[onnx.NodeProto, bool]]:
        """Yield each quantizer and dequantizer, and whether it is a weight's; a bias's have a rule of their own."""
        for node in self.of_type(QUANTIZE, DEQUANTIZE):
            if not self.is_bias(node):
                yield node, self.tensor(node) in self.constants

    def parameter(self, node: onnx.NodeProto, position: int) -> NDArray[Any] | None:
        """Return a quantizer's scale (1) or zero-point (2); None where it is missing or computed."""
        return self.constants.get(node.input[position]) if len(node.input) > position else None

    def weights(self) -> Iterator[tuple[onnx.NodeProto, NDArray[Any]]]:
        """Yield each dequantizer of a weight and its constant."""
        for node, is_weight in self.quantizers():
            if is_weight and node.op_type == DEQUANTIZE:
                yield node, self.constants[self.tensor(node)]
