"""Peers of the benchmarks: any ONNX denoiser runs through the same harness, and Noise2Void trains for the same time."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason='needs onnx: pip install "edgedenoise[quantize]"')
pytest.importorskip("onnxruntime")

from images import noisy_pair

from edgedenoise.errors import IncompatibleError
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from types import ModuleType

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
TINY = Path(__file__).resolve().parents[1] / "fixtures" / "tiny.edge"


@pytest.fixture(scope="module")
def peer_module() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module("onnx_peer")
    finally:
        sys.path.remove(str(FOLDER))


def mean_filter(
    path: Path, *, channels: int = 3, side: int | None = None, inputs: int = 1, noise: bool = False
) -> Path:
    """Write a model that returns the mean over 3 x 3 pixels, or what the input lacks to it."""
    helper = onnx.helper
    shape = [1, channels, side or "height", side or "width"]
    weight = np.zeros((channels, 1, 3, 3), np.float32) + np.float32(1 / 9)
    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["padded"], mode="reflect"),
        helper.make_node("Conv", ["padded", "weight"], ["mean"], group=channels),
    ]
    if noise:
        nodes.append(helper.make_node("Sub", ["x", "mean"], ["noise"]))
    names = ["x", "level"][:inputs]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in names],
        [helper.make_tensor_value_info("noise" if noise else "mean", onnx.TensorProto.FLOAT, shape)],
        [
            onnx.numpy_helper.from_array(weight, "weight"),
            onnx.numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "pads"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def expected(pixels: np.ndarray) -> np.ndarray:
    padded = np.pad(pixels.astype(np.float64), ((1, 1), (1, 1), (0, 0)), mode="reflect")
    height, width = pixels.shape[:2]
    mean = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3)) / 9
    return np.floor(mean + 0.5)


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({}, {}),
        ({"channels": 1}, {}),
        ({"noise": True}, {"output": "noise"}),
        ({}, {"white": 255.0}),
        ({}, {"multiple_of": 32}),
    ],
)
def test_a_model_of_any_usual_form_denoises_as_it_should(
    peer_module: ModuleType, tmp_path: Path, options: dict[str, Any], form: dict[str, Any]
) -> None:
    noisy = noisy_pair(3)[0][:61, :83]
    peer = peer_module.OnnxPeer(mean_filter(tmp_path / "mean.onnx", **options), peer_module.PeerFormat(**form))
    error = np.abs(peer(noisy).astype(np.float64) - expected(noisy))
    assert error[:-1, :-1].max() <= 1, "rounding apart, and the padding is another at the end"
    assert peer.name == "mean"


@pytest.mark.parametrize("size", [(61, 83), (20, 25), (32, 32)])
def test_windows_of_a_fixed_size_are_blended(peer_module: ModuleType, tmp_path: Path, size: tuple[int, int]) -> None:
    noisy = noisy_pair(4)[0][: size[0], : size[1]]
    denoised = peer_module.OnnxPeer(mean_filter(tmp_path / "fixed.onnx", side=32))(noisy)
    assert denoised.shape == noisy.shape
    error = np.abs(denoised.astype(np.float64) - expected(noisy))
    assert np.percentile(error, 95) <= 1, "only the ends of windows differ"


def test_a_model_of_two_inputs_is_refused(peer_module: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(IncompatibleError, match=r"expected one input .* got x: tensor\(float\) .*, level: "):
        peer_module.OnnxPeer(mean_filter(tmp_path / "two.onnx", inputs=2))


def write_pairs(folder: Path) -> Path:
    for seed in (1, 2):
        noisy, clean = (image[:96, :112] for image in noisy_pair(seed))
        write_image(Image(noisy), folder / "noisy" / f"{seed}.png")
        write_image(Image(clean), folder / "clean" / f"{seed}.png")
    return folder


def test_bundles_and_onnx_models_stand_beside_the_classical_methods(tmp_path: Path) -> None:
    write_pairs(tmp_path / "set")
    model = mean_filter(tmp_path / "mean.onnx")
    command = [sys.executable, FOLDER / "peers.py", tmp_path / "set", "--bundle", TINY, "--peer", model]
    done = subprocess.run([*command, "--out", tmp_path], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (rows,) = json.loads((tmp_path / "peers.json").read_text())["results"]["sets"].values()
    found = {row["name"]: row["quality"]["psnr_db"] for row in rows}
    assert {"noisy input", "tiny fp32", "tiny int8", "mean"} <= set(found)
    assert found["mean"] > found["noisy input"] + 1


def test_without_careamics_the_command_that_installs_it_is_shown(tmp_path: Path) -> None:
    write_pairs(tmp_path / "set")
    command = [sys.executable, FOLDER / "noise2void.py", tmp_path / "set", "--train", tmp_path / "set" / "noisy"]
    done = subprocess.run(
        [*command, "--careamics-python", tmp_path / "no-python", "--out", tmp_path],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "careamics/bin/pip install torch careamics" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_noise2void_trains_for_the_cpu_time_of_cbsn(tmp_path: Path) -> None:
    python = os.environ.get("EDGEDENOISE_CAREAMICS_PYTHON")
    if python is None:
        pytest.skip(
            "needs CAREamics: python -m venv careamics && careamics/bin/pip install torch careamics, "
            "and EDGEDENOISE_CAREAMICS_PYTHON=careamics/bin/python"
        )
    write_pairs(tmp_path / "set")
    command = [sys.executable, FOLDER / "noise2void.py", tmp_path / "set", "--train", tmp_path / "set" / "noisy"]
    command += ["--minutes", "0.1", "--network", "cbsn-16x4", "--careamics-python", python, "--out", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    ours, theirs = json.loads((tmp_path / "noise2void.json").read_text())["results"]["rows"]
    assert theirs["cpu_seconds"] >= ours["cpu_seconds"]
    assert min(ours["steps"], theirs["steps"]) >= 1
    assert all(np.isfinite(row["quality"]["psnr_db"]) for row in (ours, theirs))
