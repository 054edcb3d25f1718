"""Small networks as ONNX graphs for the tests of export/ and runtimes/, made without torch."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedenoise.exporting.onnx.graph import IR_VERSION, OPSET


class GraphBuilder:
    """A graph from `image` to `denoised`, to which layers are added."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, op_type: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(op_type, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, values: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def conv(self, x: str, output: str, shape: tuple[int, int, int], *, stride: int = 1, dilation: int = 1) -> str:
        """(out, in, kernel), He-scaled, with a bias, zero-padded to the same size (divided by the stride)."""
        channels, inputs, kernel = shape
        spread = np.sqrt(2 / (inputs * kernel * kernel))
        weight = self.rng.normal(0, spread, (channels, inputs, kernel, kernel))
        names = [self.constant(f"{output}.weight", weight)]
        names.append(self.constant(f"{output}.bias", self.rng.normal(0, 0.1, channels)))
        reach = dilation * (kernel - 1)
        pads = [(reach + 1 - stride + 1) // 2] * 2 + [(reach + 1 - stride) // 2] * 2
        return self.node("Conv", [x, *names], output, strides=[stride] * 2, dilations=[dilation] * 2, pads=pads)

    def relu(self, x: str) -> str:
        return self.node("Relu", [x], f"{x}.relu")

    def model(self, channels: int = 3) -> onnx.ModelProto:
        sides = ["height", "width"]
        graph = helper.make_graph(
            self.nodes,
            "denoiser",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, channels, *sides])],
            [helper.make_tensor_value_info("denoised", TensorProto.FLOAT, [1, 3, *sides])],
            self.constants,
        )
        return helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])


def branched_graph(width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """Two branches, a residual and a concatenation, as in a C-BSN; the receptive field reaches 4 pixels."""
    b = GraphBuilder(seed)
    head = b.relu(b.conv("image", "head", (width, 3, 1)))
    left = b.relu(b.conv(head, "left", (width, width, 3)))
    inner = b.relu(b.conv(left, "inner", (width, width, 3), dilation=3))
    summed = b.node("Add", [left, inner], "summed")
    right = b.relu(b.conv(head, "right", (width, width, 5)))
    joined = b.node("Concat", [summed, right], "joined", axis=1)
    b.conv(joined, "denoised", (3, 2 * width, 1))
    return b.model()


def shuffling_graph(width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """A strided head and a DepthToSpace tail: tiles must begin on even pixels. The field reaches 6 pixels."""
    b = GraphBuilder(seed)
    head = b.relu(b.conv("image", "head", (width, 3, 4), stride=2))
    body = b.relu(b.conv(head, "body", (width, width, 3)))
    tail = b.conv(body, "tail", (12, width, 3))
    b.node("DepthToSpace", [tail], "denoised", blocksize=2, mode="CRD")
    return b.model()


def level_graph(width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """A student that takes the noise level: shuffling, and added to the image. The field reaches 6 pixels.

    Its output depends on the level, and is the input where the level is 0: the residual is multiplied by it.
    """
    b = GraphBuilder(seed)
    head = b.relu(b.conv("image", "head", (width, 4, 4), stride=2))
    body = b.relu(b.conv(head, "body", (width, width, 3)))
    tail = b.conv(body, "tail", (12, width, 3))
    residual = b.node("DepthToSpace", [tail], "residual", blocksize=2, mode="CRD")
    pick = np.zeros((6, 4, 1, 1))
    pick[[0, 1, 2], [0, 1, 2]] = 1
    pick[3:, 3] = 0.2
    for name, rows in (("colours", pick[:3]), ("level", pick[3:])):
        b.node("Conv", ["image", b.constant(f"{name}.weight", rows)], name)
    limited = b.node("Mul", [residual, "level"], "limited")
    summed = b.node("Add", ["colours", limited], "summed")
    low, high = b.constant("low", np.float32(0)), b.constant("high", np.float32(1))
    b.node("Clip", [summed, low, high], "denoised")
    return b.model(channels=4)


def saturating_graph(width: int = 16) -> onnx.ModelProto:
    """A network whose products of 8-bit pairs are as large as they get: bright activations, equal positive weights.

    Its convolutions average; in exact arithmetic it is well-behaved. The receptive field reaches 3 pixels.
    """
    b = GraphBuilder()
    x = b.node("Conv", ["image", b.constant("head.weight", np.full((width, 3, 1, 1), 1 / 3))], "head")
    for step in range(3):
        weight = b.constant(f"blur{step}.weight", np.full((width, width, 3, 3), 1 / (9 * width)))
        x = b.relu(b.node("Conv", [x, weight], f"blur{step}", pads=[1, 1, 1, 1]))
    b.node("Conv", [x, b.constant("tail.weight", np.full((3, width, 1, 1), 1 / width))], "denoised")
    return b.model()
