"""The reference execution: an ONNX graph run node by node in float, which for a QDQ graph is exact W8A8 arithmetic.

Every backend is compared with it. ONNX Runtime without graph optimisation computes QuantizeLinear and DequantizeLinear
as they are defined, so no kernel, fusion or instruction set of a CPU takes part.

    run(model_bytes, {"image": x})["denoised"]          # arrays in, arrays out; any inputs and outputs
    with open_reference(model_bytes) as session:        # a CheckedSession, for `run_image`
        run_image(session, pixels, normalization, tiling)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgedenoise.bundles.manifest import Variant
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime, OrtSession, open_inference_session, unfused_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

_VARIANT = Variant("reference", OnnxRuntime.name, "fp32", "reference/model.onnx")


class Reference:
    """An ONNX model that is open in the reference mode, for any inputs and outputs."""

    def __init__(self, model: bytes, *, threads: int | None = None) -> None:
        """Open a model.

        Args:
            model: serialized ONNX model.
            threads: threads within one node; None for ONNX Runtime's own choice.

        Raises:
            InferenceError: ONNX Runtime cannot open the model.
        """
        self._session = open_inference_session(model, unfused_settings(threads))
        self.outputs: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())
        """Names of the model's outputs."""

    def run(self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None) -> dict[str, NDArray[Any]]:
        """Run the model once and return its outputs by name; `outputs` are those that are wanted, None for all."""
        names = list(self.outputs if outputs is None else outputs)
        return {
            name: np.asarray(value) for name, value in zip(names, self._session.run(names, dict(inputs)), strict=True)
        }


def run(
    model: bytes, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str] | None = None
) -> dict[str, NDArray[Any]]:
    """Run an ONNX model once in the reference mode.

    Args:
        model: serialized ONNX model (`ModelProto.SerializeToString()`).
        inputs: arrays by the names of the model's inputs.
        outputs: names of the outputs to return; None for all.

    Returns:
        Arrays by the names of the outputs.

    Raises:
        InferenceError: ONNX Runtime cannot open the model.

    Example:
        >>> run(model.SerializeToString(), {"image": x})["denoised"]  # doctest: +SKIP
    """
    return Reference(model).run(inputs, outputs)


def open_reference(model: bytes, *, threads: int | None = None) -> CheckedSession:
    """Open a denoiser's ONNX model (`image` in, `denoised` out) in the reference mode, for `run_image`.

    Args:
        model: serialized ONNX model.
        threads: threads within one node; None for ONNX Runtime's own choice.

    Returns:
        A session, usable as a context manager.

    Raises:
        InferenceError: ONNX Runtime cannot open the model.
    """
    session = OrtSession(_VARIANT, model, "cpu", SessionOptions(threads=threads, fused=False))
    return CheckedSession(session)
