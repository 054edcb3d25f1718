"""Write the noise estimator's network as an ONNX graph: convolutions, pooling and logarithms, for every runtime.

The graph judges the blocks of an image; the host pools their answers, as `LevelEstimator.curve` does. Input `image`:
(1, 3, H, W) in [0, 1], with H and W divisible by 16. Outputs: `levels` (1, 2, H/16, W/16), the logarithms of the
standard deviation of the noise and of its error, and `features` (1, 37, H/16, W/16), for the pooling. The graph serves
colour images; a gray one has equal channels, and `edgedenoise.noise.level_estimator.features` says how it is judged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedenoise.atomic import write_bytes
from edgedenoise.noise.level_estimator import (
    BLOCK_PX,
    FEATURES,
    FLOOR,
    OPPONENT,
    LevelEstimator,
    band_sums,
    cosine_transform,
)

if TYPE_CHECKING:
    from pathlib import Path

_OPSET = 13
_IR_VERSION = 8
_STEEP = 1e5
"""Slope of the ramps that find clipped samples: every 8-bit level is wholly above or below them."""


class _Graph:
    """Nodes and constants of a graph that is being made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: Any) -> str:
        """Add a constant; return its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def add(self, operator: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node; return the name of its output."""
        output = name or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def conv(self, x: str, weight: Any, bias: Any = None, *, name: str = "", **attributes: Any) -> str:
        """Add a convolution; return the name of its output."""
        inputs = [x, self.constant(weight)] + ([] if bias is None else [self.constant(bias)])
        return self.add("Conv", *inputs, name=name, **attributes)


def level_graph(estimator: LevelEstimator | None = None) -> onnx.ModelProto:
    """Return the graph of an estimator; None for the shipped one."""
    estimator = LevelEstimator.shipped() if estimator is None else estimator
    graph = _Graph()
    features = graph.add("Concat", *_energies(graph), *_colours(graph), name="features", axis=1)
    _perceptron(graph, features, estimator)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "noise-level",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])],
            [
                helper.make_tensor_value_info("levels", TensorProto.FLOAT, [1, 2, "rows", "columns"]),
                helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, FEATURES, "rows", "columns"]),
            ],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def write_level_graph(out: Path) -> None:
    """Write the graph of the shipped estimator to an ONNX file.

    Args:
        out: file to write, for example noise-level.onnx.

    Raises:
        OutputError: the file cannot be written.
    """
    write_bytes(out, level_graph().SerializeToString(deterministic=True))


def _energies(graph: _Graph) -> tuple[str, str, str]:
    """Add the energies of a block: mean and least of its four cells by band, and between the cells."""
    floor = graph.constant(np.full((1, 1, 1, 1), FLOOR))
    planes = graph.conv("image", OPPONENT[:, :, None, None])
    transform = cosine_transform().reshape(64, 1, 8, 8)
    coefficients = graph.conv(planes, np.tile(transform, (3, 1, 1, 1)), group=3, strides=[8, 8])
    squares = graph.add("Mul", coefficients, coefficients)
    sums = np.tile(band_sums().T, (3, 1))[:, :, None, None]
    energy = graph.add("Log", graph.add("Add", graph.conv(squares, sums, group=3), floor))
    pool: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}
    mean = graph.add("AveragePool", energy, **pool)
    least = graph.add("Neg", graph.add("MaxPool", graph.add("Neg", energy), **pool))
    pick = np.zeros((3, 64, 1, 1))
    pick[:, 0] = 1 / 8
    constant = graph.conv(coefficients, pick, group=3)  # means of the cells
    haar = np.array([[[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]], np.float32)[:, None] / 4
    steps = graph.conv(constant, np.tile(haar, (3, 1, 1, 1)), group=3, strides=[2, 2])
    variance = graph.conv(graph.add("Mul", steps, steps), np.ones((3, 3, 1, 1)), group=3)
    return mean, least, graph.add("Log", graph.add("Add", variance, floor))


def _colours(graph: _Graph) -> tuple[str, str]:
    """Add the mean colour of a block and the share of its samples that are clipped."""
    zero, one = graph.constant(0.0), graph.constant(1.0)
    block: dict[str, Any] = {"kernel_shape": [BLOCK_PX, BLOCK_PX], "strides": [BLOCK_PX, BLOCK_PX]}
    colour = graph.add("AveragePool", "image", **block)
    eye = np.eye(3)[:, :, None, None]
    dark = graph.add("Clip", graph.conv("image", -_STEEP * eye, np.full(3, _STEEP * 0.5 / 255)), zero, one)
    bright = graph.add("Clip", graph.conv("image", _STEEP * eye, np.full(3, -_STEEP * 254.5 / 255)), zero, one)
    both = graph.add("AveragePool", graph.add("Add", dark, bright), **block)
    return colour, graph.conv(both, np.full((1, 3, 1, 1), 1 / 3))


def _perceptron(graph: _Graph, x: str, estimator: LevelEstimator) -> None:
    """Add the network that judges a block, as 1x1 convolutions."""
    network = estimator.block
    for number, (weight, bias) in enumerate(network.layers):
        last = number == len(network.layers) - 1
        if number == 0:  # the first layer normalises the features too
            first = np.asarray(weight / network.deviation, np.float32)
            x = graph.conv(x, first[:, :, None, None], bias - first @ network.mean, name="levels" if last else "")
        else:
            x = graph.conv(x, weight[:, :, None, None], bias, name="levels" if last else "")
        x = x if last else graph.add("Relu", x)
