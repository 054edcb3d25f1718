"""The estimator as an ONNX graph answers as numpy does, on every runtime that runs here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from edgedenoise.exporting.onnx.level_graph import level_graph, write_level_graph
from edgedenoise.noise.level_estimator import BANDS, LevelEstimator, features
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def noisy_image() -> NDArray[np.float32]:
    """Return (64, 96, 3) with camera noise, a black and a white corner."""
    rng = np.random.default_rng(0)
    clean = np.linspace(0.05, 0.95, 64 * 96 * 3, dtype=np.float32).reshape(64, 96, 3)
    noisy = add_camera_noise(clean, parameters_for_psnr(clean, 30, rng), rng)
    noisy[:20, :20], noisy[-20:, -20:] = 0, 1
    return noisy


def run(runtime: str, image: NDArray[np.float32]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the outputs of the graph, (rows, columns, channels)."""
    tensor = np.ascontiguousarray(image.transpose(2, 0, 1))[None]
    model = level_graph().SerializeToString()
    if runtime == "onnxruntime":
        ort = pytest.importorskip("onnxruntime")
        levels, found = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"image": tensor})
    else:
        ov = pytest.importorskip("openvino")
        core = ov.Core()
        core.set_property({"INFERENCE_PRECISION_HINT": "f32"})
        answer = core.compile_model(core.read_model(model), "CPU")({"image": tensor})
        levels, found = answer["levels"], answer["features"]
    return levels[0].transpose(1, 2, 0), found[0].transpose(1, 2, 0)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_graph_answers_as_numpy_does(runtime: str) -> None:
    image = noisy_image()
    levels, found = run(runtime, image)
    expected = features(image)
    assert found.shape == expected.shape == (4, 6, 6 * len(BANDS) + 7)
    # The logarithm of the energy of a black corner differs by rounding alone.
    assert np.abs(found - expected).max() < 2e-3
    assert np.abs(levels - LevelEstimator.shipped().block(expected)).max() < 1e-3


def test_the_written_file_is_the_same_each_time(tmp_path: Path) -> None:
    write_level_graph(tmp_path / "a.onnx")
    write_level_graph(tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.onnx").stat().st_size < 100_000
