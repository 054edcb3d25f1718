"""Export: only the non-blind path leaves, it obeys the contract, and it equals PyTorch at any size."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[export]'")

import edgedenoise
from edgedenoise.bundles.bundle import METADATA_KEY, Bundle
from edgedenoise.calibration.schemes import scheme_named
from edgedenoise.denoiser import load
from edgedenoise.errors import EdgeDenoiseError, ExportError, UsageError
from edgedenoise.exporting.onnx import to_onnx
from edgedenoise.exporting.onnx.graph import lint, macs_per_px, parameter_count
from edgedenoise.exporting.onnx.parity import NEGLIGIBLE_LSB, PARITY_SIZES
from edgedenoise.exporting.onnx.to_onnx import trained_ranges
from edgedenoise.exporting.onnx.tracing import NonBlind, Trace, trace
from edgedenoise.imaging.normalize import DEFAULT_LIMIT, WHOLE_IMAGE
from edgedenoise.training.checkpoint import load_network
from edgedenoise.training.config.config import CBSNConfig, SupervisedConfig
from edgedenoise.training.inference import denoise_unit
from edgedenoise.training.networks.cbsn import CBSN
from edgedenoise.training.networks.fake_quant import Rounding, fake_quantized, sum_ranges
from edgedenoise.training.networks.families import network_spec

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    from edgedenoise.imaging.files import write_image
    from edgedenoise.imaging.image import Image

    folder = tmp_path_factory.mktemp("run")
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_image(Image(pixels), folder / "noisy" / "0.png")
    config = CBSNConfig(
        network="cbsn-8x2", data=str(folder / "noisy"), out=str(folder / "run"), steps=2, batch=1, patch=40
    )
    return edgedenoise.train(config).run


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return edgedenoise.export(run, tmp_path_factory.mktemp("exported") / "two-steps.edge")


def test_the_graph_is_plain_and_keeps_its_sides_symbolic(exported: Bundle) -> None:
    model = onnx.load(exported.file("onnx-fp32/model.onnx"))
    assert lint(model) == []
    assert {node.op_type for node in model.graph.node} == {"Conv", "Relu", "Add", "Concat"}
    assert not [p for node in model.graph.node for p in node.metadata_props]  # the author's paths stay at home


def test_parity_with_pytorch_is_measured_on_odd_sizes_and_stored(exported: Bundle) -> None:
    parity = exported.manifest.parity
    assert parity is not None
    assert tuple(map(tuple, parity.sizes)) == PARITY_SIZES
    assert 0 < parity.max_relative_error < 1e-5
    assert parity.max_error_lsb is not None
    assert 0 < parity.max_error_lsb <= NEGLIGIBLE_LSB


def test_the_manifest_tells_what_a_host_needs(exported: Bundle) -> None:
    spec, manifest = network_spec("cbsn-8x2"), exported.manifest
    assert manifest.network.name == spec.name
    assert (manifest.network.parameters, manifest.network.macs_per_px) == (spec.parameters, spec.macs_per_px)
    assert (manifest.tiling.halo_px, manifest.tiling.multiple_of) == (spec.halo_px, 1)
    assert (manifest.normalization, manifest.normalization_limit) == ("whole-image-bounded", DEFAULT_LIMIT)
    assert "MODEL_CARD.md" in manifest.files


def test_a_lone_onnx_file_still_loads_and_gives_the_same_pixels(exported: Bundle) -> None:
    path = exported.file("onnx-fp32/model.onnx")
    assert METADATA_KEY in {p.key for p in onnx.load(path).metadata_props}
    picture = np.random.default_rng(1).integers(0, 256, (50, 61, 3), dtype=np.uint8)
    picture[:] //= 16
    picture[25, 30] = 255  # a highlight, which the limit of the normalization is for
    with load(path) as alone, load(exported.root) as whole:
        np.testing.assert_array_equal(alone(picture), whole(picture))


def test_an_export_may_choose_the_normalization(run: Path, exported: Bundle, tmp_path: Path) -> None:
    plain = edgedenoise.export(run, tmp_path / "plain.edge", normalization="whole-image").manifest
    assert plain.input_normalization == WHOLE_IMAGE
    again = edgedenoise.export(run, tmp_path / "bounded.edge", normalization="whole-image-bounded").manifest
    assert again.input_normalization == exported.manifest.input_normalization
    picture = np.zeros((48, 48, 3), np.uint8)
    picture[24, 24] = 255
    with load(tmp_path / "plain.edge") as far, load(tmp_path / "bounded.edge") as limited:
        assert not np.array_equal(far(picture), limited(picture))


def test_a_student_has_no_other_normalization(students: dict[str, tuple[Path, Bundle]], tmp_path: Path) -> None:
    run, _ = students["edge-tiny"]
    with pytest.raises(UsageError, match="does not take the normalization 'whole-image-bounded'; expected unit"):
        edgedenoise.export(run, tmp_path / "x.edge", normalization="whole-image-bounded")


STUDENTS = ("edge-tiny", "edge", "edge-plus")


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Bundle]]:
    """Runs of two steps, and what was exported from them."""
    from edgedenoise.imaging.files import write_image
    from edgedenoise.imaging.image import Image

    folder = tmp_path_factory.mktemp("students")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    write_image(Image(pixels), folder / "clean" / "0.png")
    found = {}
    for name in STUDENTS:
        config = SupervisedConfig(
            network=name, clean=str(folder / "clean"), out=str(folder / name), device="cpu",
            steps=2, batch=1, patch=32, learning_rate=1e-2,
        )  # fmt: skip
        run = edgedenoise.train(config).run
        found[name] = (run, edgedenoise.export(run, folder / f"{name}.edge"))
    return found


@pytest.mark.parametrize("name", STUDENTS)
def test_a_students_graph_is_plain_and_folded(students: dict[str, tuple[Path, Bundle]], name: str) -> None:
    spec = network_spec(name)
    model = onnx.load(students[name][1].file("onnx-fp32/model.onnx"))
    assert lint(model) == []
    operators = Counter(node.op_type for node in model.graph.node)
    assert set(operators) == {"Conv", "Relu", "Add", "DepthToSpace", "Clip"}, "no Reshape, Transpose, Resize or Pad"
    convolutions = {"edge-tiny": 8, "edge": 10, "edge-plus": 13}[name]
    assert operators["Conv"] == convolutions, "a branch that was trained is no convolution of its own"
    assert operators["DepthToSpace"] == operators["Add"] == (2 if name == "edge-plus" else 1)
    assert macs_per_px(model) == spec.macs_per_px
    assert parameter_count(model) == spec.parameters, "the bounds of the Clip were not trained"
    assert model.graph.node[-1].op_type == "Clip"
    assert model.graph.node[-1].output[0] == "denoised"


@pytest.mark.parametrize("name", STUDENTS)
def test_a_students_manifest_tells_what_a_host_needs(students: dict[str, tuple[Path, Bundle]], name: str) -> None:
    spec, manifest = network_spec(name), students[name][1].manifest
    assert (manifest.network.name, manifest.normalization) == (name, "unit")
    assert (manifest.network.parameters, manifest.network.macs_per_px) == (spec.parameters, spec.macs_per_px)
    assert (manifest.tiling.halo_px, manifest.tiling.multiple_of) == (spec.halo_px, spec.multiple_of)
    assert manifest.parity is not None
    assert manifest.parity.max_error_lsb is not None
    assert 0 < manifest.parity.max_error_lsb <= NEGLIGIBLE_LSB
    for sides, least in zip(manifest.parity.sizes, PARITY_SIZES, strict=True):
        assert all(0 <= side - wanted < spec.multiple_of for side, wanted in zip(sides, least, strict=True))
        assert not any(side % spec.multiple_of for side in sides)


@pytest.mark.parametrize("name", STUDENTS)
def test_an_exported_student_answers_what_the_trained_one_does(
    students: dict[str, tuple[Path, Bundle]], name: str
) -> None:
    run, bundle = students[name]
    network, spec = load_network(run)
    picture = np.random.default_rng(1).random((50, 61, 3), np.float32)
    wanted = denoise_unit(network, spec, picture)
    assert np.abs(wanted - picture).max() > 1e-3, "two steps have changed something"
    with load(bundle.root) as denoiser:
        answer = denoiser(picture)
        np.testing.assert_allclose(answer, wanted, atol=1e-5)
    with load(bundle.root, tile=32) as tiled:
        np.testing.assert_allclose(tiled(picture), answer, atol=1e-6)


def test_a_mask_never_reaches_a_device() -> None:
    class Blind(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = CBSN(4, 1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.network(image, blind=True)

    with pytest.raises(ExportError, match="mask is baked in"):
        trace(Blind().eval())


def test_an_operator_outside_the_contract_is_refused() -> None:
    class Resizing(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(image)

    with pytest.raises(ExportError, match="Sigmoid"):
        trace(Resizing().eval())


def test_a_graph_that_differs_from_pytorch_is_not_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def traced_wrongly(module: NonBlind, channels: int) -> Trace:
        with torch.no_grad():
            module.network.head.weight.mul_(1.001)
        model = trace(module, channels)
        with torch.no_grad():
            module.network.head.weight.div_(1.001)
        return model

    monkeypatch.setattr(to_onnx, "trace", traced_wrongly)
    with pytest.raises(ExportError, match=r"differs from the network by .* 8-bit levels at 64x64 pixels, channel"):
        edgedenoise.export(run, tmp_path / "wrong.edge")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EdgeDenoiseError, match=r"no run|not a run|holds no|no checkpoint"):
        edgedenoise.export(tmp_path, tmp_path / "out.edge")


# ---------------------------------------------------------------- layers and their constants


def test_equal_constants_stay_constants_of_their_own_layers() -> None:
    """The exporter merges them: a fresh network's biases are all equal."""
    network = CBSN(8, 1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.endswith("bias"):
                parameter.fill_(0.5)
        network.branch2.mix1.weight.copy_(network.branch1.mix1.weight)
    traced = trace(NonBlind(network).eval())
    convolutions = [node for node in traced.model.graph.node if node.op_type == "Conv"]
    for position, role in ((1, "weight"), (2, "bias")):
        assert [node.input[position] for node in convolutions] == [
            f"{traced.layers[node.output[0]]}.{role}" for node in convolutions
        ]
    assert parameter_count(traced.model) == sum(parameter.numel() for parameter in network.parameters())


def test_trained_ranges_are_found_by_the_names_of_layers_not_by_their_order() -> None:
    network = fake_quantized(CBSN(8, 2), scheme_named("u8s7"))
    with torch.no_grad():
        for number, module in enumerate(m for m in network.modules() if isinstance(m, Rounding)):
            module.give_range(-1.0 - number, 1.0 + number)
    traced = trace(NonBlind(network).eval())
    expected = trained_ranges(network, traced)
    by_path = {path: tensor for tensor, path in traced.layers.items()}
    nodes = {node.output[0]: node for node in traced.model.graph.node}
    for path, (skip, branch) in sum_ranges(network).items():
        assert [expected[name] for name in nodes[by_path[f"network.{path}"]].input] == [skip, branch]
    # The order of independent nodes in a graph is the exporter's choice.
    turned = onnx.ModelProto()
    turned.CopyFrom(traced.model)
    del turned.graph.node[:]
    branches = ("network.branch2", "network.branch1")
    of_branch = [[n for n in traced.model.graph.node if _belongs(traced, n, branch)] for branch in branches]
    moved = [node for branch in of_branch for node in branch]
    first = traced.model.graph.node[:2]
    last = [node for node in traced.model.graph.node if node not in moved and node not in first]
    turned.graph.node.extend([*first, *moved, *last])
    onnx.checker.check_model(turned, full_check=True)
    assert trained_ranges(network, Trace(turned, traced.layers)) == expected


def _belongs(traced: Trace, node: onnx.NodeProto, branch: str) -> bool:
    return traced.layers.get(node.output[0], "").startswith(branch)
