"""Fake quantization computes what the QDQ graph computes, and training with it is what is exported."""

from __future__ import annotations

import shutil

import msgspec
import numpy as np
import pytest
import torch
from torch import nn

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.calibration.calibrate import float_graph, stored_ranges
from edgedenoise.calibration.graphs import load_onnx
from edgedenoise.calibration.histograms import Range
from edgedenoise.calibration.schemes import encode_range, encode_weight, scheme_named
from edgedenoise.errors import UsageError
from edgedenoise.imaging.files import Image, write_image
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.training.checkpoint import load_network
from edgedenoise.training.config.config import QATConfig, SelfQATConfig, TrainConfig, config_of
from edgedenoise.training.initial_weights import initial_network
from edgedenoise.training.networks.fake_quant import QuantizedConv2d, fake_quantized, input_ranges
from edgedenoise.training.networks.families import build_network, network_spec
from edgedenoise.training.networks.guard import Guarded
from edgedenoise.training.objectives.distill import DistillObjective
from edgedenoise.training.objectives.qat import ranges_move

U8S7, U8S8 = scheme_named("u8s7"), scheme_named("u8s8")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Six images of blocks and ramps, and the same ones with noise."""
    root = tmp_path_factory.mktemp("photographs")
    random = np.random.default_rng(0)
    for index in range(6):
        blocks = random.integers(0, 200, (8, 8, 3)).repeat(12, 0).repeat(12, 1)
        clean = blocks + np.linspace(0, 50, 96)[:, None, None]
        noisy = clean + 12 * random.standard_normal(clean.shape)
        for name, image in (("clean", clean), ("noisy", noisy)):
            write_image(Image(np.clip(image, 0, 255).astype(np.uint8)), root / name / f"{index}.png")
    return root


def settings_of(photographs, out, **changes) -> TrainConfig:
    values = {"network": "edge-tiny", "batch": 2, "patch": 32, "held_out": 1, "workers": 0, "precision": "fp32"}
    if "data" in changes:
        values["data_check"] = "off"
    return config_of({**values, "out": str(out), "device": "cpu", **changes}, where="the test")


@pytest.fixture(scope="module")
def float_run(photographs, tmp_path_factory):
    out = tmp_path_factory.mktemp("float") / "run"
    clean = str(photographs / "clean")
    edgedenoise.train(settings_of(photographs, out, objective="supervised", clean=clean, steps=12, loss="psnr"))
    return out


@pytest.fixture(scope="module")
def qat_run(photographs, float_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("qat") / "run"
    clean = str(photographs / "clean")
    edgedenoise.train(
        settings_of(photographs, out, objective="qat", init=str(float_run), clean=clean, steps=10, loss="psnr")
    )
    return out


@pytest.mark.parametrize("scheme", [U8S7, U8S8], ids=lambda scheme: scheme.name)
def test_a_convolution_rounds_as_the_encoder_does(scheme):
    torch.manual_seed(0)
    plain = nn.Conv2d(5, 7, 3, padding=1)
    layer = QuantizedConv2d(plain, scheme).train()
    x = torch.rand(2, 5, 12, 12) * 3 - 1
    layer(x)
    (low, high) = (layer.low.item(), layer.high.item())
    assert (low, high) == pytest.approx((x.min().item(), x.max().item()))
    scale, zero = encode_range(low, high, scheme)
    integers = np.clip(np.rint(x.numpy() / scale) + int(zero), 0, 255)
    seen = (integers - int(zero)) * scale
    weight, scales = encode_weight(plain.weight.detach().numpy(), scheme)
    rounded = weight * scales[:, None, None, None]
    grid = scale * scales
    bias = torch.from_numpy(np.rint(plain.bias.detach().numpy() / grid) * grid)
    expected = nn.functional.conv2d(torch.from_numpy(seen), torch.from_numpy(rounded), bias, padding=1)
    found = layer.eval()(x)
    # A value within one part in 10^7 of a tie may go either way; it moves an output by one step of one input.
    assert (found - expected).abs().median().item() < 1e-6
    assert (found - expected).abs().max().item() < 2 * float(scale) * float(np.abs(rounded).max())


def test_ranges_follow_the_batches_and_hold_zero():
    layer = QuantizedConv2d(nn.Conv2d(1, 1, 1), U8S7).train()
    layer(torch.full((1, 1, 2, 2), 4.0))
    assert (layer.low.item(), layer.high.item()) == (0, 4)
    layer(torch.full((1, 1, 2, 2), 14.0))
    assert layer.high.item() == pytest.approx(4.1)
    layer.observing = False
    layer(torch.full((1, 1, 2, 2), 99.0))
    layer.eval()(torch.full((1, 1, 2, 2), 99.0))
    assert layer.high.item() == pytest.approx(4.1)


def test_gradients_pass_inside_the_range_and_stop_outside():
    layer = QuantizedConv2d(nn.Conv2d(1, 1, 1, bias=False), U8S7).train()
    layer(torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2))
    layer.observing = False
    x = torch.tensor([0.3, 2.0]).reshape(1, 1, 1, 2).requires_grad_()
    layer(x).sum().backward()
    assert x.grad[0, 0, 0, 0].item() == pytest.approx(layer.weight.item(), rel=0.02)
    assert x.grad[0, 0, 0, 1].item() == 0
    assert layer.weight.grad.item() != 0


def test_a_dead_channel_and_a_dead_input_are_computed_as_zeros():
    plain = nn.Conv2d(2, 2, 3, padding=1)
    nn.init.zeros_(plain.weight)
    nn.init.zeros_(plain.bias)
    layer = QuantizedConv2d(plain, U8S7).train()
    assert not layer(torch.zeros(1, 2, 4, 4)).any()


def test_unknown_layers_in_float_are_refused_with_the_names_that_exist():
    network = build_network(network_spec("edge-tiny"), seed=0)
    with pytest.raises(UsageError, match=r"'taill', which is no layer of the network: expected names such as head,"):
        fake_quantized(network, U8S7, ["taill"])


def test_without_rounding_the_network_is_the_one_it_was_made_from():
    """Folding keeps what it does; only the rounding is new, and it is fine."""
    network = build_network(network_spec("edge-tiny"), seed=0)
    nn.init.normal_(network.tail.weight, std=0.02)
    x = torch.rand(1, 3, 24, 24)
    quantized = fake_quantized(network, U8S8).train()
    quantized(x)
    difference = (quantized.eval()(x) - network.eval()(x)).abs().max().item()
    assert 0 < difference < 0.05
    assert not any(isinstance(module, QuantizedConv2d) for module in network.modules())


def test_the_exported_int8_graph_gives_what_the_run_trained(qat_run, photographs, tmp_path):
    """The whole network, on an image: 60 dB and more between PyTorch's fake quantization and the oracle."""
    bundle = tmp_path / "qat.edge"
    edgedenoise.export(qat_run, bundle)
    edgedenoise.calibrate(bundle, photographs / "noisy", count=4, crop_px=48)
    trained = input_ranges(load_network(qat_run)[0])
    stored = stored_ranges(Bundle.open(bundle)).tensors
    assert stored["image"] == trained["head"], "calibration leaves trained ranges alone"
    edgedenoise.quantize(bundle)
    opened = Bundle.open(bundle)
    x = np.random.default_rng(0).random((1, 3, 64, 48), np.float32)
    network = load_network(qat_run)[0].eval()
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    options = SessionOptions(fused=False)
    with open_variant(opened, opened.variant("onnx-int8-u8s7"), options=options, selftest=False) as oracle:
        assert psnr_unit(oracle.run(x), expected) >= 60
    assert opened.manifest.training.objective == "qat"


@pytest.mark.parametrize(
    ("name", "scheme", "float_layers"),
    [
        ("edge-tiny", "s8s8", ""),
        ("edge-level", "u8s7", ""),
        ("edge-level", "s8s8", "tail"),
        ("edge-plus", "u8s7", ""),
        ("edge-plus", "s8s8", ""),
        ("cbsn-6x2", "u8s7", "tail1, tail4, branch1.trunk.1"),
        ("cbsn-6x2", "coreml", ""),
    ],
)
def test_every_network_trains_as_its_graph_computes(name, scheme, float_layers, photographs, tmp_path):
    """Add and Concat nodes and layers in float, too: 60 dB and more to the reference execution, in every scheme."""
    noisy = str(photographs / "noisy")
    begin = tmp_path / "float"
    how = (
        {"data": noisy} if name.startswith("cbsn") else {"objective": "supervised", "clean": str(photographs / "clean")}
    )
    edgedenoise.train(settings_of(photographs, begin, network=name, steps=2, patch=60, **how))
    run = tmp_path / "qat"
    edgedenoise.train(
        settings_of(
            photographs, run, network=name, objective="qat", init=str(begin), data=noisy, steps=6, patch=60,
            scheme=scheme, float_layers=float_layers,
        )
    )  # fmt: skip
    bundle = tmp_path / "qat.edge"
    manifest = edgedenoise.export(run, bundle).manifest
    edgedenoise.calibrate(bundle, photographs / "noisy", count=4, crop_px=48)
    edgedenoise.quantize(bundle, scheme=scheme)
    opened, network = Bundle.open(bundle), load_network(run)[0].eval()
    encoding = opened.variant(f"onnx-int8-{scheme}").encoding
    kinds = {"": [], "tail": ["Conv"], "tail1, tail4, branch1.trunk.1": ["Add", "Concat", *["Conv"] * 4]}[float_layers]
    nodes = {node.output[0]: node.op_type for node in load_onnx(float_graph(opened)).graph.node}
    assert sorted(nodes[layer] for layer in encoding.float_layers) == kinds
    limit = manifest.normalization_limit
    assert (limit is None) == (manifest.normalization == "unit")
    if limit is not None:
        assert input_ranges(network)["head"] == Range(-limit, limit), "what an image can give, not what crops gave"
    channels = 3 + network_spec(name).level_planes
    x = np.random.default_rng(0).random((1, channels, 64, 48), np.float32)
    x = x if manifest.normalization == "unit" else (x - x.mean()) / x.std()
    with torch.no_grad():
        expected = (Guarded(network) if channels == 4 else network)(torch.from_numpy(x)).numpy()
    reach = np.abs(expected).max()
    options = SessionOptions(fused=False)
    with open_variant(opened, opened.variant(f"onnx-int8-{scheme}"), options=options, selftest=False) as oracle:
        assert psnr_unit(oracle.run(x) / reach, expected / reach) >= 60


def test_ranges_are_frozen_late(photographs, float_run, tmp_path):
    config = settings_of(
        photographs, tmp_path / "run", objective="qat", init=str(float_run), data=str(photographs / "noisy"), steps=10,
        schedule="constant",
    )  # fmt: skip
    assert [step for step in range(10) if ranges_move(config, step)] == [0, 1, 2]
    edgedenoise.train(config)
    short = settings_of(
        photographs, tmp_path / "short", objective="qat", init=str(float_run), data=str(photographs / "noisy"),
        steps=3, observe_fraction=1.0, schedule="constant",
    )  # fmt: skip
    edgedenoise.train(short)
    long_, first = (input_ranges(load_network(run)[0]) for run in (tmp_path / "run", tmp_path / "short"))
    assert long_["body.0"] == first["body.0"], "nothing moved after the third step"
    assert long_["head"] == Range(0, 1), "the image is in [0, 1], however dark a batch was"


def test_a_run_in_8_bits_resumes_bit_for_bit(photographs, float_run, tmp_path):
    values = {"objective": "qat", "init": str(float_run), "data": str(photographs / "noisy"), "steps": 8}
    whole, stopped = (settings_of(photographs, tmp_path / name, **values) for name in ("whole", "stopped"))
    edgedenoise.train(whole)

    class Stop(Exception):
        pass

    def stop_at_5(stage: str, done: int, total: int, note: str = "") -> None:
        if stage == "train" and done == 5:
            raise Stop

    stopped = msgspec.structs.replace(stopped, checkpoint_every=4)
    with pytest.raises(Stop):
        edgedenoise.train(stopped, progress=stop_at_5)
    edgedenoise.train(stopped, resume=True)
    one, other = (load_network(tmp_path / name)[0].state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_cbsn_learns_in_8_bits_from_its_own_answers(photographs, tmp_path):
    noisy = str(photographs / "noisy")
    teacher = settings_of(photographs, tmp_path / "float", network="cbsn-6x1", data=noisy, steps=3, patch=30)
    edgedenoise.train(teacher)
    qat = settings_of(
        photographs, tmp_path / "qat", network="cbsn-6x1", objective="qat", init=str(tmp_path / "float"), data=noisy,
        steps=4, patch=30,
    )  # fmt: skip
    edgedenoise.train(qat)
    network = load_network(tmp_path / "qat")[0]
    with pytest.raises(UsageError, match="no blind path any more"):
        network(torch.zeros(1, 3, 8, 8), blind=True)
    exported = edgedenoise.export(tmp_path / "qat", tmp_path / "cbsn.edge")
    assert exported.manifest.parity.max_relative_error < 1e-5
    with pytest.raises(UsageError, match="was trained with objective = 'qat-self'") as caught:
        DistillObjective(
            settings_of(
                photographs, tmp_path / "student", objective="distill", teacher=str(tmp_path / "qat"), data=noisy
            )
        )
    assert f"--teacher {tmp_path / 'float'}" in caught.value.hint


def test_what_was_trained_in_a_scheme_is_built_in_it(photographs, float_run, tmp_path):
    run, clean = tmp_path / "run", str(photographs / "clean")
    edgedenoise.train(
        settings_of(photographs, run, objective="qat", init=str(float_run), clean=clean, steps=2, scheme="u8s8")
    )
    built = edgedenoise.build(run, photographs / "noisy", tmp_path / "b.edge", count=2, targets=()).bundle
    assert [v.encoding.scheme for v in built.manifest.variants if v.encoding] == ["u8s8"]
    card = (built.root / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "Trained on clean images with synthetic noise" in card
    assert "noisy images" not in card


def test_a_resumed_run_needs_its_first_weights_no_more_but_the_same_photographs(photographs, float_run, tmp_path):
    run, first = tmp_path / "run", tmp_path / "first"
    shutil.copytree(float_run, first)
    clean = str(photographs / "clean")
    config = settings_of(photographs, run, objective="qat", init=str(first), clean=clean, steps=2)
    edgedenoise.train(config)
    shutil.rmtree(first)
    longer = msgspec.structs.replace(config, steps=3)
    other = settings_of(photographs, run, objective="qat", init=str(first), data=str(photographs / "noisy"), steps=3)
    with pytest.raises(UsageError, match="was trained with objective = 'qat'; it cannot be resumed with 'qat-self'"):
        edgedenoise.train(other, resume=True)
    assert edgedenoise.train(longer, resume=True).steps == 3


def test_a_student_goes_on_in_float_with_weights_that_were_trained_in_8_bits(qat_run, photographs, tmp_path):
    clean = str(photographs / "clean")
    config = settings_of(photographs, tmp_path, objective="supervised", init=str(qat_run), clean=clean)
    network, trained = initial_network(config).eval(), load_network(qat_run)[0]
    assert torch.allclose(network.body[0].kernel(), trained.body[0].weight)
    assert not any(isinstance(module, QuantizedConv2d) for module in network.modules())


def test_what_cannot_be_trained_in_8_bits_is_told():
    with pytest.raises(UsageError, match="'qat' on clean images does not train network = 'cbsn-24x4'"):
        QATConfig(network="cbsn-24x4", clean="clean")
    with pytest.raises(UsageError, match=r"unknown setting 'data': expected .*objective = 'qat'"):
        TrainConfig.named("edge-shipped-int8", clean="clean", data="data")
    with pytest.raises(UsageError, match="observe_fraction = 0, which is not accepted: expected a number, above 0"):
        QATConfig(network="edge", observe_fraction=0)
    with pytest.raises(UsageError, match=r"loss = 'psnr' is for pixels in \[0, 1\]"):
        SelfQATConfig(network="cbsn-24x4", loss="psnr")
    with pytest.raises(UsageError, match="no scheme 'u4'") as caught:
        QATConfig(network="edge", scheme="u4")
    assert caught.value.hint is not None
    assert "Take u8s7" in caught.value.hint
