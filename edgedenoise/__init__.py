"""Train image denoisers on noisy images, quantize them to INT8, and run them on edge devices.

Every public name is loaded on first use (PEP 562), so that `import edgedenoise` takes milliseconds and a device
never imports what it does not run.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING

__version__ = "0.1.0"

_PUBLIC = {
    "Bundle": "edgedenoise.bundles.bundle",
    "CalibrationSet": "edgedenoise.calibration.sets",
    "Denoiser": "edgedenoise.denoiser",
    "EdgeDenoiseError": "edgedenoise.errors",
    "Image": "edgedenoise.imaging.image",
    "TrainConfig": "edgedenoise.training.config.config",
    "bench": "edgedenoise.evaluation.bench",
    "build": "edgedenoise.exporting.build",
    "calibrate": "edgedenoise.calibration.calibrate",
    "check_limits": "edgedenoise.evaluation.checks",
    "compare": "edgedenoise.evaluation.compare",
    "compile": "edgedenoise.exporting.compile",
    "denoise": "edgedenoise.denoiser",
    "denoise_files": "edgedenoise.batch.run",
    "denoise_video": "edgedenoise.video.denoise",
    "diagnose": "edgedenoise.doctor",
    "evaluate": "edgedenoise.training.scoring",
    "export": "edgedenoise.exporting.onnx.to_onnx",
    "export_noise_level": "edgedenoise.exporting.onnx.level_graph",
    "import_onnx": "edgedenoise.exporting.onnx.import_onnx",
    "import_tf": "edgedenoise.training.tf_import",
    "import_torch": "edgedenoise.exporting.onnx.import_torch",
    "load": "edgedenoise.denoiser",
    "quantize": "edgedenoise.exporting.quantization.quantize",
    "quantize_to_budget": "edgedenoise.exporting.quantization.budget",
    "train": "edgedenoise.training.loop.trainer",
    "verify": "edgedenoise.exporting.verify",
    "watch": "edgedenoise.batch.watching",
}

_DEPRECATED = {
    "benchmark_model": "bench",
    "build_bundle": "build",
    "calibrate_model": "calibrate",
    "compare_models": "compare",
    "compile_model": "compile",
    "evaluate_run": "evaluate",
    "export_model": "export",
    "import_tf_checkpoint": "import_tf",
    "quantize_model": "quantize",
    "train_model": "train",
    "verify_bundle": "verify",
}
"""Old names, and the public names that replace them."""

_DEPRECATED_UNTIL = "0.2.0"
"""The version in which the names of `_DEPRECATED` are removed."""

__all__ = ["__version__", *sorted(_PUBLIC)]

if TYPE_CHECKING:
    from edgedenoise.batch.run import denoise_files as denoise_files
    from edgedenoise.batch.watching import watch as watch
    from edgedenoise.bundles.bundle import Bundle as Bundle
    from edgedenoise.calibration.calibrate import calibrate as calibrate
    from edgedenoise.calibration.sets import CalibrationSet as CalibrationSet
    from edgedenoise.denoiser import Denoiser as Denoiser
    from edgedenoise.denoiser import denoise as denoise
    from edgedenoise.denoiser import load as load
    from edgedenoise.doctor import diagnose as diagnose
    from edgedenoise.errors import EdgeDenoiseError as EdgeDenoiseError
    from edgedenoise.evaluation.bench import bench as bench
    from edgedenoise.evaluation.checks import check_limits as check_limits
    from edgedenoise.evaluation.compare import compare as compare
    from edgedenoise.exporting.build import build as build
    from edgedenoise.exporting.compile import compile as compile  # noqa: A004  (the name of the public function)
    from edgedenoise.exporting.onnx.import_onnx import import_onnx as import_onnx
    from edgedenoise.exporting.onnx.import_torch import import_torch as import_torch
    from edgedenoise.exporting.onnx.level_graph import export_noise_level as export_noise_level
    from edgedenoise.exporting.onnx.to_onnx import export as export
    from edgedenoise.exporting.quantization.budget import quantize_to_budget as quantize_to_budget
    from edgedenoise.exporting.quantization.quantize import quantize as quantize
    from edgedenoise.exporting.verify import verify as verify
    from edgedenoise.imaging.image import Image as Image
    from edgedenoise.training.config.config import TrainConfig as TrainConfig
    from edgedenoise.training.loop.trainer import train as train
    from edgedenoise.training.scoring import evaluate as evaluate
    from edgedenoise.training.tf_import import import_tf as import_tf
    from edgedenoise.video.denoise import denoise_video as denoise_video


def __getattr__(name: str) -> object:
    if name in _DEPRECATED:
        new = _DEPRECATED[name]
        warnings.warn(
            f"edgedenoise.{name} is deprecated and will be removed in {_DEPRECATED_UNTIL}; use edgedenoise.{new}",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(importlib.import_module(__name__), new)
    if name not in _PUBLIC:
        raise AttributeError(f"module 'edgedenoise' has no attribute {name!r}; public names: {', '.join(__all__)}")
    try:
        value = getattr(importlib.import_module(_PUBLIC[name]), name)
    except ModuleNotFoundError as error:
        from edgedenoise.extras import missing_package

        raise (missing_package(error) or error) from error
    globals()[name] = value  # the next look-up finds it without this function
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
