"""edgedenoise: noisy images in, a quantized denoiser on your own device out.

Every public name is loaded on first use (PEP 562), so that `import edgedenoise` costs milliseconds and a
device never imports what it does not run.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_PUBLIC = {
    "Bundle": "edgedenoise.bundles.bundle",
    "CalibrationSet": "edgedenoise.calibration.sets",
    "Denoiser": "edgedenoise.denoiser",
    "EdgeDenoiseError": "edgedenoise.errors",
    "TrainConfig": "edgedenoise.training.config.config",
    "benchmark_model": "edgedenoise.evaluation.bench",
    "build_bundle": "edgedenoise.exporting.build",
    "calibrate_model": "edgedenoise.calibration.calibrate",
    "compare_models": "edgedenoise.evaluation.compare",
    "compile_model": "edgedenoise.exporting.compile",
    "denoise": "edgedenoise.denoiser",
    "denoise_files": "edgedenoise.batch",
    "diagnose": "edgedenoise.doctor",
    "evaluate_run": "edgedenoise.training.scoring",
    "export_model": "edgedenoise.exporting.onnx.to_onnx",
    "import_tf_checkpoint": "edgedenoise.training.tf_import",
    "load": "edgedenoise.denoiser",
    "quantize_model": "edgedenoise.exporting.quantization.qdq",
    "quantize_to_budget": "edgedenoise.exporting.quantization.budget",
    "train_model": "edgedenoise.training.loop.trainer",
    "verify_bundle": "edgedenoise.exporting.verify",
}

__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from edgedenoise.batch import denoise_files as denoise_files
    from edgedenoise.bundles.bundle import Bundle as Bundle
    from edgedenoise.calibration.calibrate import calibrate_model as calibrate_model
    from edgedenoise.calibration.sets import CalibrationSet as CalibrationSet
    from edgedenoise.denoiser import Denoiser as Denoiser
    from edgedenoise.denoiser import denoise as denoise
    from edgedenoise.denoiser import load as load
    from edgedenoise.doctor import diagnose as diagnose
    from edgedenoise.errors import EdgeDenoiseError as EdgeDenoiseError
    from edgedenoise.evaluation.bench import benchmark_model as benchmark_model
    from edgedenoise.evaluation.compare import compare_models as compare_models
    from edgedenoise.exporting.build import build_bundle as build_bundle
    from edgedenoise.exporting.compile import compile_model as compile_model
    from edgedenoise.exporting.onnx.to_onnx import export_model as export_model
    from edgedenoise.exporting.quantization.budget import quantize_to_budget as quantize_to_budget
    from edgedenoise.exporting.quantization.qdq import quantize_model as quantize_model
    from edgedenoise.exporting.verify import verify_bundle as verify_bundle
    from edgedenoise.training.config.config import TrainConfig as TrainConfig
    from edgedenoise.training.loop.trainer import train_model as train_model
    from edgedenoise.training.scoring import evaluate_run as evaluate_run
    from edgedenoise.training.tf_import import import_tf_checkpoint as import_tf_checkpoint


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'edgedenoise' has no attribute {name!r}; public names: {', '.join(__all__)}")
    try:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    except ModuleNotFoundError as error:
        from edgedenoise.extras import missing_package

        raise (missing_package(error) or error) from error
    globals()[name] = value  # the next look-up costs nothing
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
