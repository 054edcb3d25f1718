"""Rules of `rewriting` for operators that move pixels between resolutions and channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.exporting.onnx.graph import attribute
from edgedenoise.exporting.onnx.rewriter import RANK, Rewriter, not_rewritten

if TYPE_CHECKING:
    import onnx


def transposed(new: Rewriter, node: onnx.NodeProto) -> None:
    """Make a convolution and a shuffle of a transposed convolution whose windows do not overlap."""
    weight = new.constants.get(node.input[1])
    strides = attribute(node, "strides", [1, 1])
    block = strides[0]
    plain = not any([*attribute(node, "pads", [0] * 4), *attribute(node, "output_padding", [0, 0])])
    if weight is None or not plain or list(weight.shape[2:]) != [block, block] or strides != [block, block]:
        raise not_rewritten(node, "has overlapping windows; expected a kernel as large as the stride, without padding")
    if attribute(node, "group", 1) != 1 or attribute(node, "auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
        raise not_rewritten(node, "has groups or automatic padding, which are not rewritten")
    inputs, outputs = weight.shape[:2]
    name = node.output[0]
    kernel = weight.transpose(1, 2, 3, 0).reshape(outputs * block**2, inputs, 1, 1)
    names = [node.input[0], new.constant(f"{name}.weight", kernel)]
    if len(node.input) == 3:
        names.append(new.constant(f"{name}.bias", np.repeat(new.constants[node.input[2]], block**2)))
    spread = new.emit("Conv", names, f"{name}.blocks", kernel_shape=[1, 1])
    new.emit("DepthToSpace", [spread], name, blocksize=block, mode="CRD")


def resize(new: Rewriter, node: onnx.NodeProto) -> None:
    """Repeat pixels: enlarging by a whole number, the nearest pixel."""
    before, after = new.shape(node.input[0]), new.shape(node.output[0])
    block = after[2] // before[2]
    if attribute(node, "mode", b"nearest") != b"nearest" or after != [
        *before[:2],
        before[2] * block,
        before[3] * block,
    ]:
        raise not_rewritten(node, "is not an enlargement by a whole number with the nearest pixel")
    channels, name = before[1], node.output[0]
    weight = new.constant(f"{name}.weight", np.ones((channels * block**2, 1, 1, 1)))
    repeated = new.emit("Conv", [node.input[0], weight], f"{name}.blocks", group=channels, kernel_shape=[1, 1])
    new.emit("DepthToSpace", [repeated], name, blocksize=block, mode="CRD")


def _gathered(new: Rewriter, x: str, output: str, block: int, *, blocks_first: bool) -> None:
    """Make a convolution with stride that moves blocks of pixels to channels."""
    channels = new.channels(x)
    kernel = np.zeros((channels * block**2, channels, block, block))
    for channel, row, column in np.ndindex(channels, block, block):
        inside = row * block + column
        place = inside * channels + channel if blocks_first else channel * block**2 + inside
        kernel[place, channel, row, column] = 1
    weight = new.constant(f"{output}.weight", kernel)
    new.emit("Conv", [x, weight], output, kernel_shape=[block, block], strides=[block, block])


def space_to_depth(new: Rewriter, node: onnx.NodeProto) -> None:
    """Make a convolution with stride of a shuffle to channels."""
    _gathered(new, node.input[0], node.output[0], int(attribute(node, "blocksize", 1)), blocks_first=True)


def view(new: Rewriter, node: onnx.NodeProto) -> None:
    """Recognize what reshapes and transpositions shuffle; what lies between is dropped."""
    after = new.shape(node.output[0])
    if len(after) != RANK:
        return
    x = new.source(node.input[0])
    before = new.shape(x)
    if before == after:
        new.same(x, node.output[0])
    elif after[1] > before[1] and before[2] % after[2] == 0:
        _gathered(new, x, node.output[0], before[2] // after[2], blocks_first=False)
    elif after[2] > before[2] and after[2] % before[2] == 0:
        new.emit("DepthToSpace", [x], node.output[0], blocksize=after[2] // before[2], mode="CRD")
    else:
        raise not_rewritten(node, f"turns {before} into {after}, which is not a shuffle of pixels")


def expand(new: Rewriter, node: onnx.NodeProto) -> None:
    """Repeat one channel by a convolution."""
    before, after = new.shape(node.input[0]), new.shape(node.output[0])
    if before == after:
        new.same(node.input[0], node.output[0])
    elif before[1] == 1 and [*before[:1], *before[2:]] == [*after[:1], *after[2:]]:
        weight = new.constant(f"{node.output[0]}.weight", np.ones((after[1], 1, 1, 1)))
        new.emit("Conv", [node.input[0], weight], node.output[0], kernel_shape=[1, 1])
    else:
        raise not_rewritten(node, f"turns {before} into {after}; expected one channel to be repeated")
