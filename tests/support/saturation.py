"""What the saturation trap costs, measured: run by the test, and alone under an emulated CPU without VNNI."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from graphs import saturating_graph
from measuring import measure_ranges

from edgedenoise.bundles.manifest import Variant
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.errors import IncompatibleError
from edgedenoise.exporting.quantization.qdq import encode
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.runtimes import machine
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.runtimes.openvino.backend import OpenVino

if TYPE_CHECKING:
    from edgedenoise.runtimes.base import Backend


@dataclass(frozen=True)
class Saturation:
    """One scheme on one runtime; dB are PSNR to float, levels are in 255ths of the unit range."""

    oracle_db: float
    unprotected_db: float
    protected_db: float
    protected_max_error_lsb: float
    """Largest |fused - oracle|."""
    openvino_unprotected_db: float
    openvino_db: float | None
    """None where the runtime refuses the variant instead."""
    openvino_max_error_lsb: float | None


def measure(scheme_name: str, folder: Path) -> Saturation:
    """Run a bright image through a network that saturates, in every way."""
    scheme = scheme_named(scheme_name)
    model = saturating_graph()
    rng = np.random.default_rng(0)
    # Bright, as images of snow are: values near the top of the range in every channel.
    x = (0.8 + 0.2 * rng.random((1, 3, 64, 64))).astype(np.float32)
    ranges = measure_ranges(model, [x], margin_px=4)
    float_path, int8_path = folder / "float.onnx", folder / f"{scheme_name}.onnx"
    onnx.save(model, float_path)
    onnx.save(encode(model, ranges, scheme), int8_path)
    encoding = scheme.encoding
    quantized = Variant("q", "onnxruntime", "int8", "", encoding)
    plain = Variant("f", "onnxruntime", "fp32", "")

    def answer(variant: Variant, path: Path, runtime: Backend | None = None, **options: bool) -> np.ndarray:
        # The border is zero padding and not what is asked about.
        session = (runtime or OnnxRuntime()).open(variant, ModelFiles.read(path), "cpu", SessionOptions(**options))
        return session.run(x)[..., 4:-4, 4:-4]

    reference = answer(plain, float_path)
    oracle = answer(quantized, int8_path, fused=False)
    unprotected = answer(quantized, int8_path, protect_saturation=False)
    protected = answer(quantized, int8_path)
    openvino_unprotected = answer(quantized, int8_path, OpenVino(), protect_saturation=False)
    try:
        openvino = answer(quantized, int8_path, OpenVino())
    except IncompatibleError:
        openvino = None
    return Saturation(
        oracle_db=psnr_unit(oracle, reference),
        unprotected_db=psnr_unit(unprotected, reference),
        protected_db=psnr_unit(protected, reference),
        protected_max_error_lsb=float(np.abs(protected - oracle).max() * 255),
        openvino_unprotected_db=psnr_unit(openvino_unprotected, reference),
        openvino_db=None if openvino is None else psnr_unit(openvino, reference),
        openvino_max_error_lsb=None if openvino is None else float(np.abs(openvino - oracle).max() * 255),
    )


if __name__ == "__main__":
    # An emulator shows its own CPU to programs that ask the processor, as the kernels do, but the host's in
    # /proc/cpuinfo, which is what edgedenoise reads.
    machine.cpu_features = lambda: frozenset({"avx2"})
    print(json.dumps(asdict(measure(sys.argv[1], Path(sys.argv[2])))))  # noqa: T201
