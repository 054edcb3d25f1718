"""The authors' TensorFlow checkpoint becomes a run with the same numbers, and anything else is refused by name."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import edgedenoise
from edgedenoise.errors import RuntimeUnavailableError, TrainingError, UsageError
from edgedenoise.training.checkpoint import LAST, load_network, read_run
from edgedenoise.training.config.config import RUN_CONFIG, TrainConfig
from edgedenoise.training.networks.families import build_network, network_spec
from edgedenoise.training.tf_import import load_tf_checkpoint

AUTHORS = Path(__file__).parent / "fixtures" / "tf_checkpoint_8x2" / "CBSN.ckpt"
INDEX, DATA = "CBSN.ckpt.index", "CBSN.ckpt.data-00000-of-00001"

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason='TensorFlow is not installed; install it with: pip install "edgedenoise[tf]"',
)


@pytest.fixture
def copied(tmp_path):
    """The authors' checkpoint, to be spoilt: its prefix."""
    for name in (INDEX, DATA):
        (tmp_path / name).write_bytes(AUTHORS.with_name(name).read_bytes())
    return tmp_path / "CBSN.ckpt"


def authors_variables() -> dict[str, np.ndarray]:
    import tensorflow

    reader = tensorflow.train.load_checkpoint(str(AUTHORS))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def saved(prefix: Path, variables: dict[str, np.ndarray]) -> Path:
    """Write variables as a TensorFlow V2 checkpoint."""
    import tensorflow

    names = list(variables)
    tensorflow.raw_ops.SaveV2(
        prefix=str(prefix), tensor_names=names, shape_and_slices=[""] * len(names), tensors=list(variables.values())
    )
    return prefix


@needs_tensorflow
def test_the_weights_are_the_authors_to_the_bit(reference):
    weights, spec = load_tf_checkpoint(AUTHORS)
    assert spec == network_spec("cbsn-8x2")
    assert {f"weight/{name}" for name in weights} == {name for name in reference if name.startswith("weight/")}
    for name, value in weights.items():
        assert np.array_equal(value.numpy(), reference[f"weight/{name}"]), name


@needs_tensorflow
@pytest.mark.parametrize("mode", ["blind", "nonblind"])
def test_the_run_computes_what_the_authors_code_computes(tmp_path, reference, mode):
    assert edgedenoise.import_tf(AUTHORS, tmp_path / "run").network == "cbsn-8x2"
    network, _ = load_network(tmp_path / "run")
    with torch.no_grad():
        output = network(torch.from_numpy(reference["image"]), blind=mode == "blind").numpy()
    assert np.abs(output - reference[mode]).max() <= 2e-5


@needs_tensorflow
def test_the_run_is_one_like_any_other_and_official(tmp_path):
    stages = []
    result = edgedenoise.import_tf(
        AUTHORS, tmp_path / "run", progress=lambda stage, done, total, note="": stages.append((stage, done, total))
    )
    assert (result.run, result.parameters) == (tmp_path / "run", 10_347)
    assert stages == [("import", 0, 2), ("import", 1, 2), ("import", 2, 2)]
    config = TrainConfig.from_toml(result.run / RUN_CONFIG)
    checkpoint = read_run(result.run)
    assert checkpoint.config == config
    assert (config.network, config.objective, config.out) == ("cbsn-8x2", "cbsn", str(result.run))
    assert (config.steps, config.learning_rate, config.first_weights) == (500_000, 1e-4, "he")
    assert checkpoint.step == config.steps, "a resume does not train over the authors' weights"


@needs_tensorflow
@pytest.mark.parametrize("name", ["cbsn-5x1", "cbsn-3x4"])
def test_width_and_modules_follow_from_the_shapes(tmp_path, name):
    """Of a checkpoint like the released one, with Adam's slots and counters beside the weights."""
    spec = network_spec(name)
    width, modules = spec.arguments["width"], spec.arguments["modules"]
    random = np.random.default_rng(0)
    made = {}
    for variable, value in authors_variables().items():
        sides = [width if side == 8 else 2 * width if side == 16 else side for side in value.shape]
        names = [variable.replace("DCM0", f"DCM{n}") for n in range(modules)] if "DCM0" in variable else [variable]
        if "DCM1" not in variable:
            made |= {each: random.normal(size=sides).astype(np.float32) for each in names}
    slots = {f"{variable}/{slot}": value + 1 for variable, value in made.items() for slot in ("Adam", "Adam_1")}
    counters = {"global_step": np.int64(500_000), "beta1_power": np.float32(0), "beta2_power": np.float32(0.5)}
    weights, found = load_tf_checkpoint(saved(tmp_path / "released.ckpt", made | slots | counters))
    assert found == spec
    build_network(spec).load_state_dict(weights)
    assert np.array_equal(weights["head.weight"][:, :, 0, 0].numpy().T, made["DBSN/conv0/kernel"][0, 0])
    last = weights[f"branch2.trunk.{modules - 1}.dilated.weight"].numpy()
    assert np.array_equal(last.transpose(2, 3, 1, 0), made[f"DBSN/B2/DCM{modules - 1}/conv1/kernel"])


@needs_tensorflow
@pytest.mark.parametrize("meant", ["", ".index", ".data-00000-of-00001", "the folder"])
def test_a_checkpoint_can_be_named_by_its_files(copied, meant):
    path = copied.parent if meant == "the folder" else Path(f"{copied}{meant}")
    assert load_tf_checkpoint(path)[1].name == "cbsn-8x2"


def test_a_missing_checkpoint_is_named_with_those_that_are_there(copied):
    with pytest.raises(TrainingError, match=r"no TensorFlow checkpoint .*CSBN\.ckpt: .*CSBN\.ckpt\.index") as caught:
        load_tf_checkpoint(copied.with_name("CSBN.ckpt"))
    assert "holds: CBSN.ckpt" in caught.value.hint


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path):
    weights = tmp_path / "weights.h5"
    weights.write_bytes(b"\x89HDF")
    with pytest.raises(TrainingError, match=r"weights\.h5 is a file of another kind"):
        load_tf_checkpoint(weights)


@pytest.mark.parametrize("checkpoints", [[], ["a", "b"]])
def test_a_folder_is_refused_unless_it_holds_one_checkpoint(tmp_path, checkpoints):
    for name in checkpoints:
        (tmp_path / f"{name}.index").touch()
    with pytest.raises(TrainingError, match="it holds 2: a; b" if checkpoints else "it holds none"):
        load_tf_checkpoint(tmp_path)


@needs_tensorflow
@pytest.mark.parametrize("kept", [0, 1000, -1])
def test_a_truncated_checkpoint_is_refused(copied, kept):
    data = copied.with_name(DATA)
    data.write_bytes(data.read_bytes()[:kept])
    with pytest.raises(TrainingError, match=r"is damaged or not complete: DBSN/\S+ cannot be read") as caught:
        load_tf_checkpoint(copied)
    assert DATA in caught.value.hint


@needs_tensorflow
def test_a_cut_that_spares_the_weights_is_found_too(copied):
    saved(copied, authors_variables() | {"global_step": np.int64(500_000)})
    data = copied.with_name(DATA)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(TrainingError, match="global_step cannot be read"):
        load_tf_checkpoint(copied)


@needs_tensorflow
def test_changed_bytes_are_refused(copied):
    data = bytearray(copied.with_name(DATA).read_bytes())
    data[20_000] ^= 1
    copied.with_name(DATA).write_bytes(data)
    with pytest.raises(TrainingError, match="Checksum"):
        load_tf_checkpoint(copied)


@needs_tensorflow
def test_a_missing_data_file_is_named(copied):
    copied.with_name(DATA).unlink()
    with pytest.raises(TrainingError, match=rf"not complete: DBSN/\S+ cannot be read: .*{DATA}"):
        load_tf_checkpoint(copied)


@needs_tensorflow
@pytest.mark.parametrize("content", [b"", b"no checkpoint " * 100, "cut", "changed"])
def test_an_index_that_is_none_is_refused(copied, content):
    index = copied.with_name(INDEX)
    whole = index.read_bytes()
    index.write_bytes({"cut": whole[:800], "changed": whole[:100] + b"\0" + whole[101:]}.get(content, content))
    with pytest.raises(TrainingError, match=r"CBSN\.ckpt\.index cannot be read as a TensorFlow V2 checkpoint"):
        load_tf_checkpoint(copied)


@needs_tensorflow
def test_another_network_is_refused_with_the_first_differences(tmp_path):
    variables = authors_variables()
    del variables["DBSN/B2/conv1/W1"]
    variables["DBSN/conv2/kernel"] = variables["DBSN/conv2/kernel"][..., :32]
    variables["DBSN/conv4/bias"] = variables["DBSN/conv4/bias"].astype(np.float64)
    variables["DBSN/conv5/kernel"] = np.zeros((1, 1, 3, 3), np.float32)
    with pytest.raises(TrainingError, match="as cbsn-8x2 it has 4 differences") as caught:
        edgedenoise.import_tf(saved(tmp_path / "x.ckpt", variables), tmp_path / "run")
    for difference in (
        "DBSN/B2/conv1/W1 is missing, not float32 (5, 5, 8, 8)",
        "DBSN/conv2/kernel is float32 (1, 1, 8, 32), not float32 (1, 1, 8, 64)",
        "DBSN/conv4/bias is float64 (3,), not float32 (3,)",
        "DBSN/conv5/kernel is not part of it",
    ):
        assert difference in caught.value.message
    assert not (tmp_path / "run").exists()


@needs_tensorflow
def test_a_branch_that_is_shorter_than_the_other_is_another_network(tmp_path):
    variables = {name: value for name, value in authors_variables().items() if "B1/DCM1" not in name}
    with pytest.raises(TrainingError, match=r"DBSN/B1/DCM1/conv1/kernel is missing"):
        load_tf_checkpoint(saved(tmp_path / "x.ckpt", variables))


@needs_tensorflow
def test_a_checkpoint_without_the_authors_names_is_refused(tmp_path):
    others = {f"resnet/block{n}/kernel": np.zeros((3, 3, 1, 1), np.float32) for n in range(9)}
    with pytest.raises(TrainingError, match=r"conv0/kernel is missing: resnet/block0/kernel; .*; and 5 more"):
        load_tf_checkpoint(saved(tmp_path / "resnet.ckpt", others))


@pytest.mark.parametrize("there", [RUN_CONFIG, LAST])
def test_a_run_is_never_overwritten(tmp_path, there):
    (tmp_path / there).write_text("mine")
    with pytest.raises(UsageError, match="already holds a training run") as caught:
        edgedenoise.import_tf(AUTHORS, tmp_path)
    assert "--out" in caught.value.hint
    assert (tmp_path / there).read_text() == "mine"


def test_a_run_cannot_take_the_place_of_a_file(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(UsageError, match="a file of that name"):
        edgedenoise.import_tf(AUTHORS, tmp_path / "run")


def test_without_tensorflow_the_message_is_the_command_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(RuntimeUnavailableError, match="tensorflow is needed") as caught:
        edgedenoise.import_tf(AUTHORS, tmp_path / "run")
    assert caught.value.hint == 'Install it with: pip install "edgedenoise[tf]"'
    assert not (tmp_path / "run").exists()


@needs_tensorflow
@pytest.mark.slow
def test_from_the_authors_checkpoint_to_a_bundle_on_the_command_line(tmp_path, reference):
    def edgedenoise_says(*words) -> tuple[dict, str]:
        done = subprocess.run(
            [sys.executable, "-m", "edgedenoise", *map(str, words), "--json"],
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout), done.stderr

    result, notes = edgedenoise_says("import-tf", AUTHORS, "--out", tmp_path / "run", "--quiet")
    assert result == {"run": str(tmp_path / "run"), "network": "cbsn-8x2", "parameters": 10_347}
    assert not notes, "TensorFlow has nothing to say"
    edgedenoise_says("export", tmp_path / "run", "-o", tmp_path / "B.edge")

    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "B.edge" / "onnx-fp32" / "model.onnx")
    for image, expected in zip(reference["image"], reference["nonblind"], strict=True):
        (output,) = session.run(None, {"image": image[None]})
        assert np.abs(output[0] - expected).max() <= 2e-5
