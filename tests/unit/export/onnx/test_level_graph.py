"""The graph of the noise level: it equals NumPy on every runtime, and its file holds what a host needs."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import onnx
import pytest

import edgedenoise
from edgedenoise.errors import OutputError
from edgedenoise.exporting.onnx.graph import IR_VERSION, OPSET
from edgedenoise.exporting.onnx.level_graph import level_graph
from edgedenoise.noise.level_estimator import FEATURES, IMAGE_FEATURES, LevelEstimator, Perceptron, features
from edgedenoise.runtimes.noise_plane import SHIPPED
from edgedenoise.runtimes.openvino.core import shared_core

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    Run = Callable[[bytes, NDArray[np.float32]], list[NDArray[Any]]]


def random_estimator() -> LevelEstimator:
    random = np.random.default_rng(3)

    def network(*sizes: int) -> Perceptron:
        layers = [
            (random.normal(0, a**-0.5, (b, a)).astype(np.float32), random.normal(0, 0.1, b).astype(np.float32))
            for a, b in itertools.pairwise(sizes)
        ]
        mean, deviation = random.normal(0, 1, sizes[0]), random.uniform(1, 2, sizes[0])
        return Perceptron(mean.astype(np.float32), deviation.astype(np.float32), layers)

    return LevelEstimator(network(FEATURES, 8, 2), network(IMAGE_FEATURES, 4, 1))


def image(kind: str) -> NDArray[np.float32]:
    """An 8-bit image with a ramp, noise, and black and white pixels; not in whole blocks."""
    random = np.random.default_rng(1)
    ramp = np.linspace(-0.1, 1.1, 100)[None, :, None] + 0.05 * random.standard_normal((70, 100, 3))
    levels = np.round(np.clip(ramp, 0, 1) * 255)
    if kind != "coloured":
        levels = levels[..., :1].repeat(3, axis=2)
    if kind == "gray but for one sample":
        levels[7, 9, 2] += 1 if levels[7, 9, 2] < 255 else -1
    return np.asarray(levels / np.float32(255), np.float32)


def with_onnxruntime(model: bytes, planes: NDArray[np.float32]) -> list[NDArray[Any]]:
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return list(session.run(None, {"image": planes}))


def with_openvino(model: bytes, planes: NDArray[np.float32]) -> list[NDArray[Any]]:
    pytest.importorskip("openvino", reason='pip install "edgedenoise[openvino]"')
    core = shared_core()
    compiled = core.compile_model(core.read_model(model), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    found = compiled([planes])
    return [found["levels"], found["features"]]


@pytest.mark.parametrize("run", [with_onnxruntime, with_openvino])
@pytest.mark.parametrize("kind", ["coloured", "gray", "gray but for one sample"])
def test_the_graph_equals_numpy(run: Run, kind: str) -> None:
    estimator, noisy = random_estimator(), image(kind)
    planes = np.ascontiguousarray(noisy.transpose(2, 0, 1))[None]
    levels, found = run(level_graph(estimator).SerializeToString(), planes)
    assert levels.shape == (1, 2, 4, 6)
    np.testing.assert_allclose(found[0].transpose(1, 2, 0), features(noisy), atol=2e-4)
    np.testing.assert_allclose(levels[0].transpose(1, 2, 0), estimator.block(features(noisy)), atol=2e-4)


def test_gray_is_seen_in_the_whole_image_only() -> None:
    gray, other = features(image("gray")), features(image("gray but for one sample"))
    assert np.abs(gray - other).max() > 1, "the two images of the test above must differ in their features"


def test_the_file_holds_the_graph_and_the_network_of_the_image(tmp_path: Path) -> None:
    path = edgedenoise.export_noise_level(tmp_path / "noise-level.onnx")
    model = onnx.load(path)
    again = edgedenoise.export_noise_level(tmp_path / "again.onnx")
    assert again.read_bytes() == path.read_bytes()
    assert (model.ir_version, model.opset_import[0].version) == (IR_VERSION, OPSET)
    assert path.stat().st_size < 150_000
    (metadata,) = (msgspec.json.decode(p.value) for p in model.metadata_props)
    assert (metadata["estimator"], metadata["version"]) == (SHIPPED.estimator, SHIPPED.version)
    shipped = LevelEstimator.shipped().image
    assert shipped is not None
    read = Perceptron(
        np.float32(metadata["image"]["mean"]),
        np.float32(metadata["image"]["deviation"]),
        [(np.float32(one["weights"]), np.float32(one["biases"])) for one in metadata["image"]["layers"]],
    )
    given = np.random.default_rng(0).standard_normal(IMAGE_FEATURES).astype(np.float32)
    np.testing.assert_array_equal(read(given), shipped(given))


def test_an_estimator_without_a_network_of_the_image_is_exported_without_it() -> None:
    (metadata,) = level_graph(LevelEstimator(random_estimator().block)).metadata_props
    assert msgspec.json.decode(metadata.value)["image"] is None


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        edgedenoise.export_noise_level(tmp_path / "file" / "noise-level.onnx")
