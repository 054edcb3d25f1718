"""Import: a foreign graph computes what it computed, also in tiles; what cannot be tiled is refused with a reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from graphs import GraphBuilder

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.model_card import model_card
from edgedenoise.errors import ExportError, UsageError
from edgedenoise.exporting.onnx.graph import lint
from edgedenoise.exporting.onnx.receptive_field import ReceptiveField
from edgedenoise.exporting.onnx.tile_check import check_tiles, measured_reach
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.runtimes.noise_plane import SHIPPED
from edgedenoise.runtimes.onnxruntime.reference import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FLOAT = onnx.TensorProto.FLOAT


def _batch_norm(b: GraphBuilder) -> None:
    numbers = [b.constant(f"n{k}", np.array([0.5, 1.0, 2.0]) + k) for k in range(4)]
    b.conv(b.node("BatchNormalization", ["image", *numbers], "normal"), "denoised", (3, 3, 3))


def _per_channel(b: GraphBuilder) -> None:
    x = b.node("Div", ["image", b.constant("deviation", np.array([0.2, 0.3, 0.4]).reshape(1, 3, 1, 1))], "divided")
    x = b.node("Sub", [b.constant("white", np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1)), x], "flipped")
    b.node("Add", [x, b.constant("half", np.float32(0.5))], "denoised")


def _space_to_depth(b: GraphBuilder) -> None:
    small = b.conv(b.node("SpaceToDepth", ["image"], "small", blocksize=2), "body", (12, 12, 3))
    b.node("DepthToSpace", [small], "denoised", blocksize=2)


def _same_padding(b: GraphBuilder) -> None:
    weight = b.constant("w", b.rng.normal(0, 0.3, (3, 3, 4, 4)))
    b.node("Conv", ["image", weight], "denoised", auto_pad="SAME_UPPER")


def _edge_padding(b: GraphBuilder) -> None:
    b.constants.append(onnx.numpy_helper.from_array(np.array([0, 0, 2, 1, 0, 0, 2, 1]), "pads"))
    padded = b.node("Pad", ["image", "pads"], "padded", mode="edge")
    b.node("Conv", [padded, b.constant("w", b.rng.normal(0, 0.3, (3, 3, 5, 3)))], "denoised")


def _views_of_the_same(b: GraphBuilder) -> None:
    x = b.node("Identity", [b.conv("image", "body", (3, 3, 3))], "alike")
    b.node("Neg", [b.node("Dropout", [x], "kept")], "denoised")


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (_batch_norm, (1, 1)),
        (_per_channel, (0, 1)),
        (_space_to_depth, (3, 2)),
        (_same_padding, (2, 1)),
        (_edge_padding, (2, 1)),
        (_views_of_the_same, (1, 1)),
    ],
)
def test_operators_are_rewritten_and_compute_the_same(
    make: Callable[[GraphBuilder], None], field: tuple[int, int], tmp_path: Path
) -> None:
    b = GraphBuilder()
    make(b)
    onnx.save(b.model(), tmp_path / "foreign.onnx")
    imported = edgedenoise.import_onnx(tmp_path / "foreign.onnx", tmp_path / "foreign.edge")
    assert (imported.halo_px, imported.multiple_of) == field
    assert imported.measured_px == imported.halo_px
    model = onnx.load(imported.bundle.file("onnx-fp32/model.onnx"))
    assert lint(model) == []
    x = np.random.default_rng(1).random((1, 3, 40, 56), np.float32)
    expected = run(b.model().SerializeToString(), {"image": x})["denoised"]
    found = run(model.SerializeToString(), {"image": x})["denoised"]
    inner = np.s_[..., 2:-2, 2:-2]
    assert np.ptp(expected) > 0.1
    np.testing.assert_allclose(found[inner], expected[inner], atol=2e-5)


def _refused(b: GraphBuilder, op_type: str, **attributes: object) -> None:
    b.node("Mul", ["image", b.node(op_type, ["image"], "found", **attributes)], "denoised")


@pytest.mark.parametrize(
    ("op_type", "attributes", "reason"),
    [
        ("GlobalAveragePool", {}, "cannot be tiled exactly: GlobalAveragePool"),
        ("ReduceMean", {"axes": [2, 3]}, "cannot be tiled exactly: ReduceMean"),
        ("Softmax", {"axis": 3}, "cannot be tiled exactly: Softmax"),
        ("Softmax", {"axis": 1}, r"Softmax \(found\) is not taken"),
        ("Erf", {}, "Erf"),
    ],
)
def test_what_cannot_be_tiled_or_run_is_refused_with_the_reason(
    op_type: str, attributes: dict[str, object], reason: str, tmp_path: Path
) -> None:
    b = GraphBuilder()
    _refused(b, op_type, **attributes)
    onnx.save(b.model(), tmp_path / "foreign.onnx")
    with pytest.raises(ExportError, match=reason):
        edgedenoise.import_onnx(tmp_path / "foreign.onnx", tmp_path / "foreign.edge")
    assert not (tmp_path / "foreign.edge").exists()


def test_files_that_are_not_denoisers_are_refused(tmp_path: Path) -> None:
    def refused(match: str) -> None:
        with pytest.raises(ExportError, match=match):
            edgedenoise.import_onnx(tmp_path / "foreign.onnx", tmp_path / "foreign.edge")

    refused("cannot be read")
    (tmp_path / "foreign.onnx").write_bytes(b"not a model")
    refused("cannot be read as an ONNX model")
    b = GraphBuilder()
    b.conv("image", "denoised", (3, 5, 3))
    onnx.save(b.model(channels=5), tmp_path / "foreign.onnx")
    refused(r"expected float \[1, 3, height, width\]")
    b = GraphBuilder()
    b.conv("image", "denoised", (3, 3, 3), stride=2)
    onnx.save(b.model(), tmp_path / "foreign.onnx")
    refused("resolution")


def test_a_halo_that_is_too_small_is_refused_and_a_larger_one_is_taken(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.conv("image", "denoised", (3, 3, 5))
    onnx.save(b.model(), tmp_path / "foreign.onnx")
    for halo, error in ((1, ExportError), (-1, UsageError), (5000, UsageError)):
        with pytest.raises(error, match="halo"):
            edgedenoise.import_onnx(tmp_path / "foreign.onnx", tmp_path / "foreign.edge", halo_px=halo)
    imported = edgedenoise.import_onnx(tmp_path / "foreign.onnx", tmp_path / "foreign.edge", halo_px=7)
    assert imported.bundle.manifest.tiling.halo_px == 7
    assert imported.measured_px == 2


def test_the_measurement_sees_how_far_weights_look_and_tiles_with_less_are_refused() -> None:
    """A kernel of 7 pixels that is zero beyond its second ring looks two pixels far."""
    b = GraphBuilder()
    kernel = np.zeros((3, 3, 7, 7))
    kernel[:, :, 1:-1, 1:-1] = b.rng.normal(0, 0.2, (3, 3, 5, 5))
    b.node("Conv", ["image", b.constant("w", kernel)], "denoised", pads=[3, 3, 3, 3])
    data = b.model().SerializeToString()
    assert measured_reach(data, ReceptiveField(3, 1)) == 2
    assert check_tiles(data, Tiling(2), UNIT) < 0.02
    with pytest.raises(ExportError, match="tiles with a halo of 1 px differ"):
        check_tiles(data, Tiling(1), UNIT)


def test_the_card_does_not_claim_how_an_imported_network_was_trained(tmp_path: Path) -> None:
    b = GraphBuilder()
    b.conv("image", "denoised", (3, 3, 3))
    onnx.save(b.model(), tmp_path / "foreign.onnx")
    card = model_card(edgedenoise.import_onnx(tmp_path / "foreign.onnx", tmp_path / "foreign.edge").bundle.manifest)
    assert "not recorded" in card
    assert "Trained on noisy images" not in card


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[object, Path]]:
    """Networks by name, and their ONNX files."""
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[export]'")
    pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'edgedenoise[export]'")
    from foreign_networks import DnCNN, FFDNet, NAFBlock, UNet, export_foreign

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("foreign")
    made = {"dncnn": DnCNN(), "ffdnet": FFDNet(), "naf": NAFBlock(), "unet": UNet(), "nafnet": NAFBlock(attention=True)}
    options = {"dncnn": {"symbolic": False}, "ffdnet": {"channels": 4, "dynamo": False}, "nafnet": {"dynamo": False}}
    return {
        name: (network, export_foreign(network, folder / f"{name}.onnx", **options.get(name, {})))
        for name, network in made.items()
    }


FIELDS = {"dncnn": (4, 1), "ffdnet": (5, 2), "naf": (3, 1), "unet": (13, 4)}


@pytest.mark.parametrize("name", FIELDS)
def test_a_network_is_imported_quantized_verified_and_run_in_tiles(
    name: str, networks: dict[str, tuple[object, Path]], tmp_path: Path, noisy_folder: Path
) -> None:
    import torch

    network, file = networks[name]
    imported = edgedenoise.import_onnx(file, tmp_path / "foreign.edge")
    assert (imported.halo_px, imported.multiple_of) == FIELDS[name]
    assert imported.measured_px == imported.halo_px
    channels = imported.bundle.manifest.input_channels
    x = np.random.default_rng(2).random((1, channels, 64, 96), np.float32)
    data = imported.bundle.file("onnx-fp32/model.onnx").read_bytes()
    found = run(data, {"image": x})["denoised"]
    x[:, 3:] /= SHIPPED.gain
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    inner = np.s_[..., 13:-13, 13:-13]  # borders that a network mirrors are the host's
    np.testing.assert_allclose(found[inner], expected[inner], atol=2e-5)

    edgedenoise.calibrate(imported.bundle.root, noisy_folder)
    edgedenoise.quantize(imported.bundle.root)
    report = edgedenoise.verify(imported.bundle.root)
    assert {check.variant: check.status for check in report.variants} == {
        "onnx-fp32": "passed",
        "onnx-int8-u8s7": "passed",
    }
    assert Bundle.open(imported.bundle.root).variant("onnx-int8-u8s7").fidelity_db > 40


def test_the_published_nafnet_is_refused_because_it_averages_the_whole_image(
    networks: dict[str, tuple[object, Path]], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"GlobalAveragePool .* whole image"):
        edgedenoise.import_onnx(networks["nafnet"][1], tmp_path / "foreign.edge")
