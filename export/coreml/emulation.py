"""Emulate a saved Core ML package on machines that cannot run it.

The package is read back as coremltools wrote it, and run operator by operator: float32 unchanged, float16 with the
output of every operator rounded to float16, 8-bit integers by Core ML's own rule (scale, round half to even, clip).
The accumulators of Apple's kernels can only be tested on a device.
"""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from edgedenoise.errors import InferenceError
from edgedenoise.exporting.onnx.graph import IR_VERSION, OPSET
from edgedenoise.imaging.image import from_unit
from edgedenoise.runtimes.base import INPUT_NAME, OUTPUT_NAME, EffectiveDevice, Session
from edgedenoise.runtimes.coreml.backend import (
    CoreML,
    coremltools_quietly,
    from_output,
    io_of,
    package_of,
    spec_of,
    to_input,
)
from edgedenoise.runtimes.failures import inference_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Variant

    Values = dict[str, Any]
    """An operator's inputs by name, as arrays, numbers or texts."""


def emulate(bundle: Bundle, variant: Variant) -> Session:
    """Open a variant's package in the interpreter.

    Raises:
        RuntimeUnavailableError: coremltools is not installed.
        InferenceError: the package has an operator that is not interpreted.
    """
    with bundle.model_files(variant).private_copy() as path:
        return EmulatedPackage(package_of(path))


def program_of(package: Path) -> tuple[list[Any], Callable[[Any], str]]:
    """Read a saved package back.

    Returns:
        The operations in order without constants, as objects of coremltools; and a function that returns the type of a
        variable by its name (`fp16`).
    """
    spec = spec_of(package)
    # coremltools raises no class of its own.
    with coremltools_quietly(), inference_errors(CoreML.label, f"read {package}", (Exception,)):
        from coremltools.converters.mil.frontend.milproto import load
        from coremltools.converters.mil.mil import types

        weights = package / "Data" / "com.apple.CoreML" / "weights"
        program = load.load(spec, specification_version=spec.specificationVersion, file_weights_dir=str(weights))
        operations = [op for op in program.functions["main"].operations if op.op_type != "const"]
    return operations, lambda var: str(types.builtin_to_string(var.dtype))


class EmulatedPackage(Session):
    """A saved package, read back; a `Session`."""

    def __init__(self, package: Path) -> None:
        self._io = io_of(spec_of(package))
        self._operations, self._dtype_of = program_of(package)
        unknown = {op.op_type for op in self._operations} - set(OPERATORS)
        if unknown:
            raise InferenceError(
                f"{package} has operators that are not interpreted: {', '.join(sorted(unknown))};"
                f" interpreted are {', '.join(OPERATORS)}"
            )
        self.effective = EffectiveDevice(
            CoreML.name, metadata.version("coremltools"), "emulated", "interpreter of the saved program, in numpy"
        )

    def run(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run one (1, 3, s, s) array."""
        with inference_errors(CoreML.label, "run the saved program", (Exception,), shape=x.shape):  # it may be damaged
            return self._run_as_stored(x)

    def _run_as_stored(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._io == "tensor":
            return self._run(x)
        given = np.asarray(to_input(x, "image"), np.float32).transpose(2, 0, 1)[None]
        answer = self._run(np.ascontiguousarray(given))[0].transpose(1, 2, 0) / np.float32(255)
        return from_output(Image.fromarray(from_unit(answer, np.dtype(np.uint8))), "image")

    def close(self) -> None:
        """Drop the program."""
        del self._operations

    def _run(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        known: dict[str, NDArray[Any]] = {INPUT_NAME: image}
        for op in self._operations:
            values = {name: _value(var, known) for name, var in op.inputs.items() if var is not None}
            answer = OPERATORS[op.op_type](values)
            result = op.outputs[0]
            # Rounded to the type that the program declares: that is what float16 means.
            known[result.name] = np.asarray(answer).astype(_DTYPES[self._dtype_of(result)])
        return np.asarray(known[OUTPUT_NAME], np.float32)


def _cast(values: Values) -> NDArray[Any]:
    return np.asarray(values["x"]).astype(_DTYPES[str(values["dtype"])])


def _conv(values: Values) -> NDArray[Any]:
    """Convolve in float32, whatever the operands are stored in: kernels sum in more than they store."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    weight = _wide(values["weight"])
    bias = _wide(values["bias"]) if values.get("bias") is not None else np.zeros(len(weight), np.float32)
    top, bottom, left, right = (int(pad) for pad in values["pad"])
    node = helper.make_node(
        "Conv",
        ["x", "weight", "bias"],
        ["y"],
        strides=[int(step) for step in values["strides"]],
        dilations=[int(step) for step in values["dilations"]],
        group=int(values["groups"]),
        pads=[top, left, bottom, right],
    )
    sides = [1, None, None, None]
    graph = helper.make_graph(
        [node],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sides)],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    model = helper.make_model(graph, ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": _wide(values["x"])})[0])


def _relu(values: Values) -> NDArray[Any]:
    return np.asarray(np.maximum(values["x"], 0))


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Values], NDArray[Any]]:
    return lambda values: np.asarray(function(_wide(values["x"]), _wide(values["y"])))


def _concat(values: Values) -> NDArray[Any]:
    return np.concatenate([np.asarray(value) for value in values["values"]], axis=int(values["axis"]))


def _clip(values: Values) -> NDArray[Any]:
    return np.asarray(np.clip(values["x"], values["alpha"], values["beta"]))


def _pixel_shuffle(values: Values) -> NDArray[Any]:
    x, step = np.asarray(values["x"]), int(values["upscale_factor"])
    n, channels, height, width = x.shape
    blocks = x.reshape(n, channels // step**2, step, step, height, width).transpose(0, 1, 4, 2, 5, 3)
    return blocks.reshape(n, channels // step**2, height * step, width * step)


def _depth_to_space(values: Values) -> NDArray[Any]:
    x, step = np.asarray(values["x"]), int(values["block_size"])
    n, channels, height, width = x.shape
    blocks = x.reshape(n, step, step, channels // step**2, height, width).transpose(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, channels // step**2, height * step, width * step)


def _abs(values: Values) -> NDArray[Any]:
    return np.asarray(np.abs(np.asarray(values["x"])))


def _avg_pool(values: Values) -> NDArray[Any]:
    """Average in float32, over the pixels that the input has where padding is excluded."""
    x = _wide(values["x"])
    (rows, columns), (down, right) = (tuple(int(v) for v in values[name]) for name in ("kernel_sizes", "strides"))
    top, bottom, before, after = (int(pad) for pad in values["pad"])
    padded = [np.pad(v, ((0, 0), (0, 0), (top, bottom), (before, after))) for v in (x, np.ones_like(x[:, :1]))]
    windows = [sliding_window_view(v, (rows, columns), axis=(2, 3))[:, :, ::down, ::right] for v in padded]
    total, count = (window.sum(axis=(4, 5), dtype=np.float32) for window in windows)
    return np.asarray(total / (count if bool(values["exclude_padding_from_average"]) else rows * columns))


def _max_pool(values: Values) -> NDArray[Any]:
    x = _wide(values["x"])
    (rows, columns), (down, right) = (tuple(int(v) for v in values[name]) for name in ("kernel_sizes", "strides"))
    top, bottom, before, after = (int(pad) for pad in values["pad"])
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (before, after)), constant_values=-np.inf)
    return np.asarray(sliding_window_view(padded, (rows, columns), axis=(2, 3))[:, :, ::down, ::right].max(axis=(4, 5)))


def _sqrt(values: Values) -> NDArray[Any]:
    return np.asarray(np.sqrt(_wide(values["x"])))


def _reduce_mean(values: Values) -> NDArray[Any]:
    axes = tuple(int(axis) for axis in values["axes"])
    return np.asarray(_wide(values["x"]).mean(axis=axes, keepdims=bool(values["keep_dims"])))


def _slice_by_index(values: Values) -> NDArray[Any]:
    def ends(name: str) -> list[int | None]:
        """Return where the slices start or stop along each axis; None at the end of the axis."""
        places, open_ended = (np.asarray(values[key]).tolist() for key in (name, f"{name}_mask"))
        return [None if free else place for place, free in zip(places, open_ended, strict=True)]

    return np.asarray(np.asarray(values["x"])[tuple(map(slice, ends("begin"), ends("end")))])


def _quantize(values: Values) -> NDArray[Any]:
    return np.asarray(np.clip(np.rint(_wide(values["input"]) / _wide(values["scale"])), -128, 127))


def _dequantize(values: Values) -> NDArray[Any]:
    return np.asarray(_wide(values["input"]) * _wide(values["scale"]))


def _constexpr_affine_dequantize(values: Values) -> NDArray[Any]:
    data = _wide(values["quantized_data"])
    along = [1] * data.ndim
    along[int(values["axis"])] = -1
    zero, scale = (_wide(values[name]) for name in ("zero_point", "scale"))
    spread = [value.reshape(along) if value.ndim else value for value in (zero, scale)]
    return np.asarray((data - spread[0]) * spread[1])


def _constexpr_blockwise_shift_scale(values: Values) -> NDArray[Any]:
    """Widen 8-bit weights as iOS 18 has them; a block of ours is an output channel, so scales spread by themselves."""
    offset = _wide(values["offset"]) if values.get("offset") is not None else np.float32(0)
    return np.asarray((_wide(values["data"]) - offset) * _wide(values["scale"]))


OPERATORS: dict[str, Callable[[Values], NDArray[Any]]] = {
    "abs": _abs,
    "add": _binary(np.add),
    "avg_pool": _avg_pool,
    "cast": _cast,
    "clip": _clip,
    "concat": _concat,
    "constexpr_affine_dequantize": _constexpr_affine_dequantize,
    "constexpr_blockwise_shift_scale": _constexpr_blockwise_shift_scale,
    "conv": _conv,
    "depth_to_space": _depth_to_space,
    "dequantize": _dequantize,
    "max_pool": _max_pool,
    "mul": _binary(np.multiply),
    "pixel_shuffle": _pixel_shuffle,
    "quantize": _quantize,
    "real_div": _binary(np.divide),
    "reduce_mean": _reduce_mean,
    "relu": _relu,
    "slice_by_index": _slice_by_index,
    "sqrt": _sqrt,
    "sub": _binary(np.subtract),
}
"""Every operator that our packages contain, in Core ML's names."""

_DTYPES: dict[str, type[np.generic]] = {
    "fp16": np.float16,
    "fp32": np.float32,
    "int8": np.int8,
    "int32": np.int32,
}


def _wide(value: Any) -> NDArray[np.float32]:
    return np.asarray(value, np.float32)


def _value(var: Any, known: dict[str, NDArray[Any]]) -> Any:
    if isinstance(var, (list, tuple)):
        return [_value(one, known) for one in var]
    return known.get(var.name, var.val)
