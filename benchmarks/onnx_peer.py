"""Run any ONNX denoiser as a peer: one image in, one image or its noise out.

The model has one input (1, C, H, W) of floats and one output of the same shape, with 1 or 3 channels. H and W are open,
or fixed: then windows of that size overlap by a quarter and are blended, which is not exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgedenoise.errors import IncompatibleError
from edgedenoise.imaging.image import from_unit, to_unit
from edgedenoise.runtimes.onnxruntime.backend import open_inference_session

if TYPE_CHECKING:
    from pathlib import Path

    from image_sets import Pixels
    from numpy.typing import NDArray

    Float = NDArray[np.float32]


@dataclass(frozen=True)
class PeerFormat:
    """What a model expects and returns."""

    white: float = 1.0
    """Value of white: 1 or 255."""
    output: Literal["image", "noise"] = "image"
    """Whether the output is the denoised image, or the noise to subtract."""
    multiple_of: int = 16
    """Height and width are padded to a multiple of this, by reflection."""


class OnnxPeer:
    """An ONNX denoiser on ONNX Runtime with one thread.

    Args:
        path: the model.
        form: what it expects and returns.

    Raises:
        IncompatibleError: it is not a model of one image.
        InferenceError: ONNX Runtime cannot open it.
    """

    def __init__(self, path: Path, form: PeerFormat = PeerFormat()) -> None:
        import onnxruntime

        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = 1
        self.name = path.stem
        self._form = form
        self._session = open_inference_session(path.read_bytes(), settings, source=path)
        inputs = self._session.get_inputs()
        shapes = [list(value.shape) for value in inputs]
        if len(inputs) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in {1, 3} or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{value.name}: {value.type} {value.shape}" for value in inputs)
            raise IncompatibleError(
                f"{path} cannot be a peer: expected one input tensor(float) of shape (1, 1 or 3, H, W), got {found}",
                hint="Export the model with one image as its only input.",
            )
        self._input = inputs[0].name
        self._channels = shapes[0][1]
        self._fixed = tuple(side if isinstance(side, int) and side > 0 else None for side in shapes[0][2:])

    def __call__(self, pixels: Pixels) -> Pixels:
        """Denoise (H, W, 3) of 8 bits."""
        planes = to_unit(pixels).transpose(2, 0, 1)
        groups = [planes] if self._channels == 3 else [planes[channel : channel + 1] for channel in range(3)]
        denoised = np.concatenate([self._whole(group) for group in groups])
        return from_unit(denoised.transpose(1, 2, 0), np.uint8)

    def _whole(self, planes: Float) -> Float:
        """Denoise (C, H, W) in [0, 1]."""
        height, width = planes.shape[1:]
        sides = [self._fixed[axis] or _rounded_up(planes.shape[1 + axis], self._form.multiple_of) for axis in (0, 1)]
        missing = [max(0, side - have) for side, have in zip(sides, (height, width), strict=True)]
        padded = np.pad(planes, ((0, 0), (0, missing[0]), (0, missing[1])), mode="reflect")
        total, weights = np.zeros(padded.shape, np.float64), np.zeros(padded.shape[1:])
        window = np.outer(*(_ramp(side) for side in sides))
        for top in _starts(padded.shape[1], sides[0]):
            for left in _starts(padded.shape[2], sides[1]):
                place = (slice(top, top + sides[0]), slice(left, left + sides[1]))
                total[(slice(None), *place)] += self._run(padded[(slice(None), *place)]) * window
                weights[place] += window
        return np.asarray((total / weights)[:, :height, :width], np.float32)

    def _run(self, planes: Float) -> Float:
        form = self._form
        given = np.ascontiguousarray(planes[None] * np.float32(form.white), np.float32)
        out: Any = self._session.run(None, {self._input: given})[0]
        if out.shape != given.shape:
            raise IncompatibleError(f"{self.name} cannot be a peer: expected an output {given.shape}, got {out.shape}")
        result = given - out if form.output == "noise" else out
        return np.asarray(result[0] / np.float32(form.white), np.float32)


def _rounded_up(side: int, multiple: int) -> int:
    return -(-side // multiple) * multiple


def _starts(side: int, window: int) -> list[int]:
    """Return the starts of windows that cover a side and overlap by a quarter at least."""
    return sorted({min(start, side - window) for start in range(0, side, max(1, window * 3 // 4))})


def _ramp(side: int) -> NDArray[np.float64]:
    """Return weights of a window: 1 in its middle, falling over the quarters at its ends."""
    at = np.arange(side) + 0.5
    return np.minimum(np.minimum(at, side - at) / (side / 4), 1.0)
