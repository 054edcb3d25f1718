"""ONNX Runtime's CUDA provider, wherever it is: a run, and never its name in a list."""

from __future__ import annotations

import numpy as np
import pytest

from edgedenoise.denoiser import load
from edgedenoise.errors import DeviceFallbackError, DeviceNotFoundError
from edgedenoise.imaging.metrics import psnr_unit

pytestmark = pytest.mark.gpu


def test_cuda_computes_what_the_cpu_does_and_says_that_it_did() -> None:
    image = np.random.default_rng(0).random((300, 420, 3)).astype(np.float32)
    try:
        on_gpu = load("edge", runtime="onnxruntime", precision="fp32", device="cuda")
    except (DeviceNotFoundError, DeviceFallbackError) as error:
        pytest.skip(f"ONNX Runtime has no working CUDA here: {error.message}")
    with on_gpu, load("edge", runtime="onnxruntime", precision="fp32", device="cpu") as on_cpu:
        assert on_gpu.effective.device == "cuda"
        assert on_gpu.effective.detail.startswith("CUDAExecutionProvider")
        assert psnr_unit(on_gpu(image), on_cpu(image)) > 60  # TF32 may round what float32 would not
