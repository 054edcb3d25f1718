"""Networks that average the whole image: refused by default, blended on request, and marked as not exact."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import pytest
from graphs import GraphBuilder

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import BLENDED_SCHEMA, SCHEMA, Manifest
from edgedenoise.bundles.manifest_json import write_manifest
from edgedenoise.bundles.model_card import model_card
from edgedenoise.errors import ExportError, IncompatibleError, ManifestError, UsageError
from edgedenoise.exporting.onnx.receptive_field import receptive_field
from edgedenoise.exporting.packages import write_dtmodel, write_lone_onnx
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.runtimes.temporal import Temporal

if TYPE_CHECKING:
    from pathlib import Path


def _pooled(path: Path, *, mean: str = "GlobalAveragePool") -> Path:
    """Write a network with the channel attention of NAFNet: each channel is weighted by means of the image."""
    b = GraphBuilder()
    body = b.node("Relu", [b.conv("image", "body", (8, 3, 3))], "rectified")
    attributes = {} if mean == "GlobalAveragePool" else {"axes": [2, 3], "keepdims": 1}
    pooled = b.node(mean, [body], "pooled", **attributes)
    weighted = b.node("Mul", [body, b.conv(pooled, "attention", (8, 8, 1))], "weighted")
    b.node("Add", ["image", b.conv(weighted, "tail", (3, 8, 3))], "denoised")
    onnx.save(b.model(), path)
    return path


@pytest.fixture(scope="module")
def blended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle whose tiles are blended."""
    folder = tmp_path_factory.mktemp("blended")
    edgedenoise.import_onnx(_pooled(folder / "pooled.onnx"), folder / "pooled.edge", tiling="blend")
    return folder / "pooled.edge"


@pytest.mark.parametrize("mean", ["GlobalAveragePool", "ReduceMean"])
def test_it_is_refused_by_default_and_taken_on_request(mean: str, tmp_path: Path) -> None:
    file = _pooled(tmp_path / "pooled.onnx", mean=mean)
    with pytest.raises(ExportError, match=f"cannot be tiled exactly: {mean}") as caught:
        edgedenoise.import_onnx(file, tmp_path / "pooled.edge")
    assert f"import-onnx {file} -o {tmp_path / 'pooled.edge'} --tiling blend" in caught.value.hint
    imported = edgedenoise.import_onnx(file, tmp_path / "pooled.edge", tiling="blend")
    assert (imported.halo_px, imported.measured_px, imported.multiple_of) == (2, None, 1)
    assert imported.max_error_lsb < 0.02
    assert imported.max_tile_error_lsb > 0.1, "tiles that are equal to the whole image test nothing"
    graph = onnx.load(imported.bundle.file("onnx-fp32/model.onnx"))
    field = receptive_field(graph)
    assert field is not None
    assert (field.halo_px, field.reads_whole_image) == (2, True)


def test_a_network_that_can_be_exact_is_not_blended(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.conv("image", "denoised", (3, 3, 3))
    onnx.save(b.model(), tmp_path / "plain.onnx")
    with pytest.raises(UsageError, match="looks 1 px far and can be tiled exactly"):
        edgedenoise.import_onnx(tmp_path / "plain.onnx", tmp_path / "plain.edge", tiling="blend")


@pytest.mark.parametrize(("op_type", "attributes"), [("Softmax", {"axis": 3}), ("GlobalMaxPool", {})])
def test_what_is_no_mean_of_channels_is_refused_in_both(
    op_type: str, attributes: dict[str, int], tmp_path: Path
) -> None:
    b = GraphBuilder()
    b.node("Mul", ["image", b.node(op_type, ["image"], "found", **attributes)], "denoised")
    onnx.save(b.model(), tmp_path / "foreign.onnx")
    with pytest.raises(ExportError, match=f"cannot be tiled exactly: {op_type}") as caught:
        edgedenoise.import_onnx(tmp_path / "foreign.onnx", tmp_path / "foreign.edge", tiling="blend")
    assert "takes means of each channel" in caught.value.hint


def test_the_bundle_states_that_its_tiles_are_not_exact(blended: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(blended)
    manifest = bundle.manifest
    assert (manifest.schema, manifest.tiling.blend_px, manifest.tiling.margin_px) == (BLENDED_SCHEMA, 32, 34)
    assert "| tiles | blended over 64 pixels, not exact |" in model_card(manifest)
    (check,) = edgedenoise.verify(blended).variants
    assert check.status == "passed"
    assert check.tiled_max_error_lsb is not None
    assert check.tiled_max_error_lsb > 0.1
    assert "tiles are blended and not exact" in check.reason
    with pytest.raises(IncompatibleError, match="does not blend tiles"):
        write_dtmodel(bundle, tmp_path / "pooled.dtmodel", license_id="MIT")
    write_lone_onnx(bundle, tmp_path / "alone.onnx")
    assert not edgedenoise.load(tmp_path / "alone.onnx").bundle.manifest.tiling.is_exact


def test_results_and_limits_say_it(blended: Path) -> None:
    report = edgedenoise.bench(blended, shape=64, repeats=3)
    assert any("blended over 64 pixels: they are not exact" in one for one in report.run.environment.remarks)
    tiles = [one for one in edgedenoise.check_limits(blended).outcomes if one.name == "tiles"]
    assert [one.status for one in tiles] == ["not run"]
    assert "not judged" in tiles[0].message


def test_readers_that_do_not_blend_refuse_the_bundle(blended: Path) -> None:
    """The schema is another one, and it cannot be given to bundles with exact tiles or kept from blended ones."""
    raw = msgspec.json.decode((blended / "manifest.json").read_bytes())
    assert raw["schema"] == BLENDED_SCHEMA
    for schema, tiling in ((SCHEMA, raw["tiling"]), (BLENDED_SCHEMA, {"halo_px": 2})):
        with pytest.raises(msgspec.ValidationError, match="contradicts the tiles"):
            msgspec.convert({**raw, "schema": schema, "tiling": tiling}, type=Manifest)


def test_a_manifest_that_hides_the_mean_is_found_by_verify(blended: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(blended, tmp_path / "copy.edge")
    manifest = Bundle.open(copy).manifest
    write_manifest(copy, msgspec.structs.replace(manifest, schema=SCHEMA, tiling=Tiling(2)))
    (check,) = edgedenoise.verify(copy).variants
    assert check.status == "failed"
    assert "the graph reads the mean of the whole image" in check.reason


def test_parts_of_a_video_are_not_reused() -> None:
    with pytest.raises(UsageError, match="output of a part cannot be reused"):
        Temporal(Tiling(2, blend_px=32), reuse=True)


def test_it_is_calibrated_quantized_and_denoises(blended: Path, noisy_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(blended, tmp_path / "copy.edge")
    edgedenoise.calibrate(copy, noisy_folder)
    edgedenoise.quantize(copy)
    report = edgedenoise.verify(copy)
    assert {one.variant: one.status for one in report.variants} == {"onnx-fp32": "passed", "onnx-int8-u8s7": "passed"}
    image = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    whole, tiled = (edgedenoise.load(copy, precision="fp32", tile=tile)(image) for tile in (0, 48))
    difference = np.abs(whole.astype(int) - tiled)
    assert 0 < difference.max() < 60


def test_a_bundle_with_exact_tiles_is_written_as_before(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.conv("image", "denoised", (3, 3, 3))
    onnx.save(b.model(), tmp_path / "plain.onnx")
    bundle = edgedenoise.import_onnx(tmp_path / "plain.onnx", tmp_path / "plain.edge").bundle
    raw = msgspec.json.decode((bundle.root / "manifest.json").read_bytes())
    assert raw["schema"] == SCHEMA
    assert set(raw["tiling"]) == {"halo_px", "multiple_of", "bytes_per_px"}
    (bundle.root / "manifest.json").write_bytes(msgspec.json.encode({**raw, "schema": "edgedenoise-bundle/2"}))
    with pytest.raises(ManifestError, match="another schema"):
        Bundle.open(bundle.root)
