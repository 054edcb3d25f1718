"""Export the estimator of noise levels as an ONNX graph, so that every runtime can run it.

The graph judges blocks of 16x16 pixels. It consists of convolutions, pooling and logarithms, and returns the same
numbers as `LevelEstimator` in NumPy. docs/results/noise-level.md describes what the host computes from them. The
network that the host needs for that is in the metadata of the file, as JSON.

Input `image`: (1, 3, H, W) in [0, 1], 16 pixels or more on each side; gray images as three equal channels.
Output `levels`: (1, 2, H / 16, W / 16), logarithms of sigma and of its error.
Output `features`: (1, 37, H / 16, W / 16), from which the host computes the features of the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgedenoise.atomic import write_bytes
from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.exporting.onnx.graph import IR_VERSION, OPSET
from edgedenoise.noise.level_estimator import (
    BANDS,
    BLOCK_PX,
    FEATURES,
    FLOOR,
    OPPONENT,
    LevelEstimator,
    Perceptron,
    band_sums,
    cosine_transform,
)
from edgedenoise.runtimes.base import CHANNELS, INPUT_NAME
from edgedenoise.runtimes.noise_plane import SHIPPED

LEVELS: Final = "levels"
FEATURE_MAP: Final = "features"
_PLANES = len(OPPONENT)
_CELL_PX = 8
_RAMP = 1e5  # slope that separates clipped from other samples, and gray from coloured images: any 16-bit step is 1
_HAAR = np.array([[[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]], np.float32)[:, None] / 4


def export_noise_level(out: Path | str) -> Path:
    """Write the estimator of noise levels as an ONNX file, for hosts without Python.

    Args:
        out: file to write; an existing file is replaced.

    Returns:
        Path of the file.

    Raises:
        OutputError: the file cannot be written.

    Example:
        >>> import edgedenoise
        >>> edgedenoise.export_noise_level("noise-level.onnx").name
        'noise-level.onnx'
    """
    path = Path(out)
    write_bytes(path, level_graph(LevelEstimator.shipped()).SerializeToString(deterministic=True))
    return path


def level_graph(estimator: LevelEstimator) -> onnx.ModelProto:
    """Return the graph of an estimator.

    Args:
        estimator: weights of the network of the blocks, for the graph, and of the image, for the metadata.
    """
    g = _Builder()
    energy, between = _band_energies(g)
    energy, between = _with_gray(g, energy, between)
    mean = g.conv(energy, np.full((_PLANES * len(BANDS), 1, 2, 2), 0.25), group=_PLANES * len(BANDS), strides=[2, 2])
    least = g.negative(g.add("MaxPool", g.negative(energy), kernel_shape=[2, 2], strides=[2, 2]))
    found = g.add("Concat", mean, least, between, _block_means(g), _clipped_share(g), output=FEATURE_MAP, axis=1)
    _perceptron(g, estimator.block, found, LEVELS)
    graph = helper.make_graph(
        g.nodes,
        "noise-level",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, [1, CHANNELS, "height", "width"])],
        [
            helper.make_tensor_value_info(LEVELS, TensorProto.FLOAT, [1, 2, "rows", "columns"]),
            helper.make_tensor_value_info(FEATURE_MAP, TensorProto.FLOAT, [1, FEATURES, "rows", "columns"]),
        ],
        g.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    model.metadata_props.add(key=METADATA_KEY, value=_metadata(estimator).decode())
    onnx.checker.check_model(model, full_check=True)
    return model


class _Builder:
    """Nodes and constants of a graph that is being built."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, values: Any) -> str:
        """Add a constant and return its name."""
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        output = output or f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    def conv(self, x: str, weight: Any, bias: Any = None, *, output: str = "", **attributes: Any) -> str:
        """Add a convolution and return the name of its output."""
        inputs = [x, self.constant(weight), *([] if bias is None else [self.constant(bias)])]
        return self.add("Conv", *inputs, output=output, **attributes)

    def linear(self, x: str, matrix: Any, bias: Any = None, *, output: str = "") -> str:
        """Add a 1x1 convolution by a matrix (outputs, inputs) and return the name of its output."""
        return self.conv(x, np.asarray(matrix, np.float32)[:, :, None, None], bias, output=output)

    def negative(self, x: str) -> str:
        """Add a multiplication by -1 and return the name of its output."""
        return self.add("Mul", x, self.constant(np.full((1, 1, 1, 1), -1)))

    def logarithm(self, energy: str) -> str:
        """Add the logarithm of an energy above `FLOOR` and return the name of its output."""
        return self.add("Log", self.add("Add", energy, self.constant(np.full((1, 1, 1, 1), FLOOR))))

    def ramp(self, x: str, matrix: Any, bias: Any) -> str:
        """Add `clip(matrix x + bias, 0, 1)` and return the name of its output."""
        return self.add("Clip", self.linear(x, matrix, bias), self.constant(0.0), self.constant(1.0))


def _band_energies(g: _Builder) -> tuple[str, str]:
    """Add the logarithms of the energies in the bands of each cell, and between the cells of each block."""
    planes = g.linear(INPUT_NAME, OPPONENT)
    transform = np.tile(cosine_transform().reshape(-1, 1, _CELL_PX, _CELL_PX), (_PLANES, 1, 1, 1))
    coefficients = g.conv(planes, transform, group=_PLANES, strides=[_CELL_PX, _CELL_PX])
    squares = g.add("Mul", coefficients, coefficients)
    energy = g.logarithm(g.conv(squares, np.tile(band_sums().T, (_PLANES, 1))[:, :, None, None], group=_PLANES))
    constant = np.zeros((_PLANES, _CELL_PX**2, 1, 1))
    constant[:, 0] = 1 / _CELL_PX
    means = g.conv(coefficients, constant, group=_PLANES)
    steps = g.conv(means, np.tile(_HAAR, (_PLANES, 1, 1, 1)), group=_PLANES, strides=[2, 2])
    between = g.conv(g.add("Mul", steps, steps), np.ones((_PLANES, len(_HAAR), 1, 1)), group=_PLANES)
    return energy, g.logarithm(between)


def _with_gray(g: _Builder, energy: str, between: str) -> tuple[str, str]:
    """Add what `level_estimator` does to gray images: their colours get the noise of the gray plane."""
    bands, log_3 = len(BANDS), float(np.log(3))
    gray = g.linear(energy, np.eye(bands, _PLANES * bands), np.full(bands, -log_3))
    last = np.zeros((bands, bands))
    last[:, -1] = 1
    white = g.linear(gray, last)
    colour = g.add("Min", gray, white)
    gray_between = g.linear(between, np.eye(1, _PLANES), [-log_3])
    mean_of_cells = np.log(0.75 / _CELL_PX**2)  # variance of four means, of white noise
    one_band = np.zeros((1, bands, 2, 2))
    one_band[:, -1] = 0.25
    white_between = g.conv(gray, one_band, [mean_of_cells], strides=[2, 2])
    colour_between = g.add("Min", gray_between, white_between)
    # The largest difference between two channels, in either direction: 0 in a gray image.
    differences = g.add("Relu", g.linear(INPUT_NAME, [[1, -1, 0], [-1, 1, 0], [0, 1, -1], [0, -1, 1]]))
    is_gray = g.ramp(g.add("GlobalMaxPool", differences), np.full((1, 4), -_RAMP), [1.0])

    def chosen(coloured: str, *grays: str) -> str:
        change = g.add("Add", g.add("Concat", *grays, axis=1), g.negative(coloured))
        return g.add("Add", coloured, g.add("Mul", change, is_gray))

    return chosen(energy, gray, colour, colour), chosen(between, gray_between, colour_between, colour_between)


def _block_means(g: _Builder) -> str:
    """Add the mean colour of each block."""
    mean = np.full((CHANNELS, 1, BLOCK_PX, BLOCK_PX), BLOCK_PX**-2)
    return g.conv(INPUT_NAME, mean, group=CHANNELS, strides=[BLOCK_PX, BLOCK_PX])


def _clipped_share(g: _Builder) -> str:
    """Add the share of samples in each block that are black or white."""
    black = g.ramp(INPUT_NAME, -_RAMP * np.eye(CHANNELS), np.full(CHANNELS, _RAMP * 0.5 / 255))
    white = g.ramp(INPUT_NAME, _RAMP * np.eye(CHANNELS), np.full(CHANNELS, -_RAMP * 254.5 / 255))
    mean = np.full((1, CHANNELS, BLOCK_PX, BLOCK_PX), 1 / (CHANNELS * BLOCK_PX**2))
    return g.conv(g.add("Add", black, white), mean, strides=[BLOCK_PX, BLOCK_PX])


def _perceptron(g: _Builder, network: Perceptron, x: str, output: str) -> None:
    """Add a network of 1x1 convolutions; its inputs are normalized in the first one."""
    for number, (weight, bias) in enumerate(network.layers):
        is_last = number == len(network.layers) - 1
        if number == 0:
            scaled = weight / network.deviation
            x = g.linear(x, scaled, bias - scaled @ network.mean, output=output if is_last else "")
        else:
            x = g.linear(x, weight, bias, output=output if is_last else "")
        x = x if is_last else g.add("Relu", x)


def _metadata(estimator: LevelEstimator) -> bytes:
    """Return the estimator's name and version, and the network of the image, as JSON."""
    image = estimator.image
    network = image and {
        "mean": image.mean.tolist(),
        "deviation": image.deviation.tolist(),
        "layers": [{"weights": weight.tolist(), "biases": bias.tolist()} for weight, bias in image.layers],
    }
    return msgspec.json.encode({"estimator": SHIPPED.estimator, "version": SHIPPED.version, "image": network})
