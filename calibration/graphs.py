"""Read ONNX graphs of bundles: what is returned is a whole graph, whose constants can be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.bundles.contents import damage_reported
from edgedenoise.extras import missing_package

if TYPE_CHECKING:
    import onnx

    from edgedenoise.bundles.manifest import Manifest


def load_onnx(data: bytes, what: str = "the ONNX model") -> onnx.ModelProto:
    """Read a serialized ONNX model and check it by ONNX's own rules.

    Args:
        data: the serialized ModelProto, with all its weights.
        what: the file, for messages.

    Raises:
        RuntimeUnavailableError: the package onnx is not installed.
        IntegrityError: it is not an ONNX model, or a damaged one.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ModuleNotFoundError as error:
        raise (missing_package(error) or error) from error
    with damage_reported(what):
        model = onnx.load_model_from_string(data)
        onnx.checker.check_model(model)
        if not model.graph.input or not model.graph.output:
            raise ValueError("it has no input, or no output")
        for tensor in model.graph.initializer:
            numpy_helper.to_array(tensor)  # the checker does not compare the size with the shape
        return model


def channel_problems(model: onnx.ModelProto, manifest: Manifest) -> list[str]:
    """Return the problem of a graph that takes another number of channels than its manifest says, if it is one."""
    if not model.graph.input or input_channels(model) == manifest.input_channels:
        return []
    declared = "no noise level" if manifest.noise_level is None else "a noise level"
    return [f"the input has {input_channels(model)} channels; expected {manifest.input_channels}, as for {declared}"]


def input_channels(model: onnx.ModelProto) -> int:
    """Return the number of channels that a graph takes: 3, and 1 where it takes the noise level."""
    return int(model.graph.input[0].type.tensor_type.shape.dim[1].dim_value)
