"""Packages for other programs: the pixels are those of the bundle, and the files are what the consumers read."""

from __future__ import annotations

import json
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime
import pytest
from graphs import branched_graph, level_graph

import edgedenoise
from edgedenoise.cli import app
from edgedenoise.errors import IncompatibleError, OutputError, UsageError
from edgedenoise.exporting.onnx.float_bundle import FloatGraph, write_float_bundle
from edgedenoise.exporting.packages import write_dtmodel, write_hub_folder, write_lone_onnx
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.runtimes.noise_plane import SHIPPED
from edgedenoise.runtimes.onnxruntime.reference import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgedenoise.bundles.bundle import Bundle

IMAGE = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
DARKTABLE_FIELDS = ("id", "name", "description", "task", "backend", "version")
"""What darktable's own validator of models asks for."""


@pytest.fixture
def unit_bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(branched_graph(), normalization=UNIT)


def test_a_lone_onnx_file_denoises_as_the_bundle(unit_bundle: Bundle, tmp_path: Path) -> None:
    file = write_lone_onnx(unit_bundle, tmp_path / "alone.onnx")
    np.testing.assert_array_equal(edgedenoise.load(file)(IMAGE), edgedenoise.load(unit_bundle.root)(IMAGE))
    with pytest.raises(IncompatibleError, match="has no variant 'missing'"):
        write_lone_onnx(unit_bundle, tmp_path / "alone.onnx", variant="missing")
    with pytest.raises(UsageError, match=r"ends in \.onnx"):
        write_lone_onnx(unit_bundle, tmp_path / "alone.bin")


def test_darktable_gets_what_its_rules_ask_for(unit_bundle: Bundle, tmp_path: Path) -> None:
    file = write_dtmodel(unit_bundle, tmp_path / "test.dtmodel", license_id="Apache-2.0")
    with zipfile.ZipFile(file) as package:
        assert package.namelist() == ["denoise-test/config.json", "denoise-test/model.onnx"]
        config = json.loads(package.read("denoise-test/config.json"))
        data = package.read("denoise-test/model.onnx")
    assert all(config[field] for field in DARKTABLE_FIELDS)
    assert (config["id"], config["task"], config["backend"], config["num_inputs"]) == (
        "denoise-test",
        "denoise",
        "onnx",
        1,
    )
    assert config["model_card"]["license"] == "Apache-2.0"
    assert unit_bundle.manifest.digest in config["model_card"]["source"]
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (given,), (found,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[:2]) == ("input", "tensor(float)", [1, 3])
    assert (found.name, found.type, found.shape[:2]) == ("output", "tensor(float)", [1, 3])
    x = np.random.default_rng(1).random((1, 3, 256, 256), np.float32)  # the smallest tile of darktable
    ours = run(unit_bundle.file("onnx-fp32/model.onnx").read_bytes(), {"image": x})["denoised"]
    np.testing.assert_allclose(session.run(None, {"input": x})[0], ours, atol=1e-5)
    again = write_dtmodel(unit_bundle, tmp_path / "again.dtmodel", license_id="Apache-2.0")
    assert again.read_bytes() == file.read_bytes()


def test_what_darktable_cannot_give_a_network_is_said(make_bundle: Callable[..., Bundle], tmp_path: Path) -> None:
    def refused(bundle: Bundle, match: str) -> None:
        with pytest.raises(IncompatibleError, match=match):
            write_dtmodel(bundle, tmp_path / "test.dtmodel", license_id="MIT")
        assert not (tmp_path / "test.dtmodel").exists()

    refused(make_bundle(branched_graph()), "normalized by the whole image")
    refused(make_bundle(branched_graph(), normalization=UNIT, halo_px=65), "looks 65 px far")
    level = FloatGraph(level_graph(), "level", UNIT, 6, 2, noise_level=SHIPPED)
    refused(write_float_bundle(tmp_path / "level.edge", level), "noise level")


def test_the_hub_folder_has_a_card_with_metadata_and_a_bundle_that_loads(unit_bundle: Bundle, tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML: pip install pyyaml")
    folder = write_hub_folder(unit_bundle, tmp_path / "hub", license_id="apache-2.0")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "model.onnx", "test.edge"]
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["license"] == "apache-2.0"
    assert metadata["pipeline_tag"] == "image-to-image"
    assert text.lstrip().startswith("# test\n")
    expected = edgedenoise.load(unit_bundle.root)(IMAGE)
    for name in ("test.edge", "model.onnx"):
        np.testing.assert_array_equal(edgedenoise.load(folder / name)(IMAGE), expected)
    write_hub_folder(unit_bundle, folder, license_id="mit")  # replaces its own
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "photo.jpg").touch()
    with pytest.raises(OutputError, match="not overwritten"):
        write_hub_folder(unit_bundle, tmp_path / "other", license_id="mit")
    assert (tmp_path / "other" / "photo.jpg").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "hf"], "needs the licence"),
        (["--to", "dtmodel"], "needs the licence"),
        (["--to", "onnx", "--license", "MIT"], "--license belongs to"),
        (["--variant", "onnx-fp32"], "--variant belongs to"),
        (["--to", "onnx", "--unpack"], "exclude each other"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    options: list[str], message: str, unit_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        app(["pack", str(unit_bundle.root), "-o", str(tmp_path / "out.onnx"), *options], prog_name="edgedenoise")
    assert stopped.value.code == UsageError.exit_code
    assert message in capsys.readouterr().err
