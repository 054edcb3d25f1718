"""One call denoises any image and gives back what it was given: type, shape, depth, everything but the noise."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from cpus import ARM, AVX2, OLD_X86, SILENT_X86, VNNI, Cpu, pretend
from PIL import Image as PILImage

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Encoding, HeldOutLoss, Training, Variant
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.denoiser import Denoiser, denoise, load, load_variant
from edgedenoise.errors import (
    EdgeDenoiseError,
    ImageError,
    IncompatibleError,
    InferenceError,
    RuntimeUnavailableError,
    UsageError,
)
from edgedenoise.imaging.image import Image, Metadata
from edgedenoise.imaging.metrics import psnr, psnr_unit
from edgedenoise.runtimes.choosing import AUTO_INT8_FIDELITY_DB, choose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Pair = Callable[[int], tuple[np.ndarray, np.ndarray]]

SHAPES = ((33, 47), (33, 47, 1), (33, 47, 3))
TYPES = ("uint8", "uint16", "float32", "float64")


def picture(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    """A colourful ramp with noise on it, over most of the type's range."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.1, 0.8, int(np.prod(shape))).reshape(shape)
    unit = np.clip(ramp + rng.normal(0, 0.08, shape), 0, 1)
    if np.dtype(dtype).kind == "f":
        return unit.astype(dtype)
    return (unit * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture(scope="module")
def denoiser(committed_bundle: Path) -> Iterator[Denoiser]:
    with load_variant(Bundle.open(committed_bundle), "onnx-fp32", selftest=False) as opened:
        yield opened


# ---------------------------------------------------------------- same type out as in


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_an_array_comes_back_as_the_same_kind_of_array(denoiser: Denoiser, shape: tuple[int, ...], dtype: str) -> None:
    given = picture(shape, dtype)
    kept = given.copy()
    answer = denoiser(given)
    assert (answer.shape, answer.dtype) == (given.shape, given.dtype)
    assert not np.array_equal(answer, given)
    np.testing.assert_array_equal(given, kept)  # the caller's array is left alone
    if given.dtype.kind == "f":
        assert answer.min() >= 0
        assert answer.max() <= 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_depths_agree_to_within_their_rounding(denoiser: Denoiser, dtype: str) -> None:
    given = picture((33, 47, 3), dtype)
    most = np.iinfo(dtype).max
    exact = denoiser((given / most).astype(np.float32))
    assert np.abs(denoiser(given) / most - exact).max() <= 0.5 / most + 1e-6


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16"])
def test_a_pil_image_comes_back_in_its_mode(denoiser: Denoiser, mode: str) -> None:
    channels = len(mode) if mode.isalpha() else 1
    shape = (33, 47) if channels == 1 else (33, 47, channels)
    array = np.maximum(picture(shape, "uint16" if mode == "I;16" else "uint8"), 1)  # nothing is fully transparent
    given = PILImage.fromarray(array)
    given.info["dpi"] = (300, 300)
    assert given.mode == mode
    answer = denoiser(given)
    assert isinstance(answer, PILImage.Image)
    assert (answer.mode, answer.size, answer.info["dpi"]) == (mode, given.size, (300, 300))
    colours = array[..., :3] if channels == 4 else array
    found = np.asarray(answer)
    np.testing.assert_array_equal(found[..., :3] if channels == 4 else found, denoiser(colours))
    if mode == "RGBA":
        np.testing.assert_array_equal(np.asarray(answer)[..., 3], array[..., 3])


def test_a_photo_keeps_its_alpha_and_metadata(denoiser: Denoiser) -> None:
    alpha = np.maximum(picture((33, 47), "uint16", seed=1), 1)
    given = Image(picture((33, 47, 3), "uint16"), alpha, Metadata(icc=b"profile", dpi=(72, 72)), "TIFF")
    answer = denoiser(given)
    assert isinstance(answer, Image)
    np.testing.assert_array_equal(answer.pixels, denoiser(given.pixels))
    assert answer.alpha is alpha
    assert (answer.metadata, answer.format) == (given.metadata, "TIFF")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("photo.png", "cannot denoise a str"),
        (None, "cannot denoise a NoneType"),
        (np.zeros((8, 8, 4), np.uint8), r"got \(8, 8, 4\)"),
        (np.zeros((8, 8), np.int32), "got int32"),
        (np.zeros((0, 8), np.uint8), "no pixels"),
        (np.full((8, 8), np.nan), "expected finite numbers"),
        (np.full((8, 8), 200.0), r"expected \[0, 1\]"),
    ],
    ids=["path", "nothing", "alpha", "integers", "empty", "nan", "floats to 255"],
)
def test_what_is_no_picture_is_refused(denoiser: Denoiser, given: Any, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        denoiser(given)


# ---------------------------------------------------------------- what it does to pixels


@pytest.mark.parametrize("name", ["onnx-fp32", "onnx-int8-u8s7"])
def test_it_takes_noise_out(committed_bundle: Path, pair: Pair, name: str) -> None:
    """On images and noise that it was not trained on."""
    gains = []
    with load_variant(Bundle.open(committed_bundle), name, selftest=False) as opened:
        for seed in (100, 101, 102):
            noisy, clean = pair(seed)
            gains.append(psnr(opened(noisy), clean) - psnr(noisy, clean))
    assert min(gains) >= 1, f"PSNR gains in dB: {gains}"


def test_integers_are_as_close_to_float_as_the_manifest_says(committed_bundle: Path, pair: Pair) -> None:
    bundle = Bundle.open(committed_bundle)
    given = pair(103)[0].astype(np.float32) / 255
    answers = []
    for name in ("onnx-fp32", "onnx-int8-u8s7"):
        with load_variant(bundle, name, selftest=False) as opened:
            answers.append(opened(given))
    assert psnr_unit(*answers) >= (bundle.variant("onnx-int8-u8s7").fidelity_db or 0) - 5


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_strength_0_gives_the_input_back_exactly(committed_bundle: Path, shape: tuple[int, ...], dtype: str) -> None:
    given = picture(shape, dtype)
    if dtype == "uint16":
        given.flat[:9] = [0, 1, 2, 255, 256, 32767, 32768, 65534, 65535]
    answer = denoise(given, committed_bundle, strength=0)
    if dtype == "float32" and shape[2:] != (3,):
        np.testing.assert_allclose(answer, given, atol=1e-7)  # the mean of three equal floats may round
    else:
        np.testing.assert_array_equal(answer, given)


@pytest.mark.parametrize("one", [1, 1.0, np.float32(1), np.float64(1), np.int64(1)], ids=lambda one: type(one).__name__)
def test_options_take_numbers_of_python_and_numpy(committed_bundle: Path, one: Any) -> None:
    given = picture((40, 30, 3), "uint8")
    found = denoise(given, committed_bundle, strength=one, tile=np.int32(64))
    assert np.array_equal(found, denoise(given, committed_bundle, tile=64))


def test_strength_blends_input_and_answer(committed_bundle: Path) -> None:
    given = picture((33, 47, 3), "float32")
    whole = denoise(given, committed_bundle, precision="fp32")
    half = denoise(given, committed_bundle, precision="fp32", strength=0.5)
    inside = (whole > 0) & (whole < 1)  # the blend is of answers that are not yet clipped
    np.testing.assert_allclose(half[inside], (given[inside] + whole[inside]) / 2, atol=1e-6)


def test_the_statistics_are_those_of_the_whole_picture(denoiser: Denoiser) -> None:
    """A crop alone is another image: the same pixels are normalised by other statistics."""
    given = picture((96, 96, 3), "float32")
    inner = slice(24, 72)  # further from the crop's border than the halo
    crop = given[8:88, 8:88]
    within = denoiser(given)[inner, inner]
    alone = denoiser(np.ascontiguousarray(crop))[16:64, 16:64]
    assert np.abs(within - alone).max() > 1e-3


def test_gray_is_three_equal_channels_averaged(denoiser: Denoiser) -> None:
    gray = picture((33, 47), "float32")
    three = denoiser(np.repeat(gray[..., None], 3, axis=2))
    np.testing.assert_allclose(denoiser(gray), three.mean(axis=2), atol=1e-6)
    np.testing.assert_array_equal(denoiser(gray[..., None])[..., 0], denoiser(gray))


def test_gray_stored_as_colours_comes_back_without_a_tint(committed_bundle: Path) -> None:
    gray = picture((64, 80, 1), "uint8")
    clean = denoise(gray.repeat(3, axis=2), committed_bundle)
    assert (clean == clean[..., :1]).all()
    assert np.array_equal(clean[..., :1], denoise(gray, committed_bundle))
    assert np.array_equal(denoise(Image(gray.repeat(3, axis=2)), committed_bundle).pixels, clean)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (40, 30, 3)], ids=str)
@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_flat_picture_stays_finite(denoiser: Denoiser, shape: tuple[int, ...], value: int) -> None:
    exact = denoiser(np.full(shape, value / 255, np.float32))
    assert np.isfinite(exact).all()
    assert denoiser(np.full(shape, value, np.uint8)).shape == shape


def test_the_layout_in_memory_does_not_matter(denoiser: Denoiser) -> None:
    given = picture((40, 50, 3), "uint8")
    np.testing.assert_array_equal(denoiser(np.asfortranarray(given)), denoiser(given))
    np.testing.assert_array_equal(denoiser(given[::-1])[::-1], denoiser(np.ascontiguousarray(given[::-1]))[::-1])
    assert not np.array_equal(denoiser(given[::-1])[::-1], np.zeros_like(given))


def test_progress_is_told_per_tile(committed_bundle: Path) -> None:
    seen: list[tuple[int, int]] = []
    with load(committed_bundle, tile=64) as opened:
        opened(picture((100, 130, 3), "uint8"), on_tile=lambda done, total: seen.append((done, total)))
        assert opened.last_tile == 64
    assert seen == [(i, 6) for i in range(1, 7)]


# ---------------------------------------------------------------- opening and closing


def test_a_denoiser_closes_with_its_block(committed_bundle: Path) -> None:
    with edgedenoise.load(committed_bundle) as opened:
        assert opened.effective.device == "cpu"
    opened.close()  # twice is allowed
    with pytest.raises(InferenceError, match="closed"):
        opened(picture((8, 8, 3), "uint8"))


BAD_OPTIONS: dict[str, tuple[dict[str, Any], type[EdgeDenoiseError], str]] = {
    "tile below 0": ({"tile": -1}, UsageError, "tile is -1; expected 'auto', 0"),
    "tile of letters": ({"tile": "x"}, UsageError, "tile is 'x'; expected"),
    "tile of a truth": ({"tile": True}, UsageError, "tile is True; expected"),
    "strength above 1": ({"strength": 2}, UsageError, "strength is 2; expected 0"),
    "strength as text": ({"strength": "0.5"}, UsageError, "strength is '0.5'; expected 0"),
    "strength as a bool": ({"strength": True}, UsageError, "strength is True; expected 0"),
    "strength as an array": ({"strength": np.array([0.5, 0.5])}, UsageError, "expected 0"),
    "strength of nan": ({"strength": float("nan")}, UsageError, "strength is nan"),
    "precision": ({"precision": "int4"}, UsageError, "no precision 'int4'; expected auto, fp32, fp16, int8, w8a16"),
    "runtime": (
        {"runtime": "nope"},
        UsageError,
        "'nope'; expected one of onnxruntime, openvino, tensorrt, tensorrt-rtx",
    ),
    "not in the bundle": ({"runtime": "openvino"}, IncompatibleError, "it has onnx-fp32"),
    "nor this precision": ({"precision": "fp16"}, IncompatibleError, "precision fp16"),
    "nor this backend": ({"runtime": "tensorrt"}, IncompatibleError, "no variant for runtime tensorrt"),
}


@pytest.mark.parametrize("kind", BAD_OPTIONS)
def test_a_bad_option_is_told_with_what_is_accepted(committed_bundle: Path, kind: str) -> None:
    options, error, message = BAD_OPTIONS[kind]
    with pytest.raises(error, match=message) as caught:
        load(committed_bundle, **options)
    if kind.startswith(("strength", "precision")):
        assert caught.value.hint is not None


def test_a_bad_option_is_told_before_the_model_is_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="strength"):
        load(tmp_path / "nowhere.edge", strength=-1)


def test_what_would_add_the_missing_variant_is_told(committed_bundle: Path) -> None:
    with pytest.raises(IncompatibleError) as caught:
        load(committed_bundle, runtime="openvino")
    assert f"edgedenoise compile {committed_bundle} --target openvino" in str(caught.value)


def test_a_shipped_bundle_is_copied_before_a_variant_is_added() -> None:
    with pytest.raises(IncompatibleError) as caught:
        load("edge", runtime="openvino")
    assert caught.value.hint == (
        "Add one with: edgedenoise pack edge --unpack -o my-edge.edge"
        " && edgedenoise compile my-edge.edge --target openvino"
    )


def test_no_command_is_told_to_add_a_variant_to_a_lone_file(committed_bundle: Path) -> None:
    with pytest.raises(IncompatibleError) as caught:
        load(committed_bundle / "onnx-fp32" / "model.onnx", precision="int8")
    assert caught.value.hint == "Load the bundle that model.onnx came from: a model file alone cannot be changed."


# ---------------------------------------------------------------- choosing


def with_variants(bundle: Bundle, *variants: Variant) -> Bundle:
    return replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, variants=list(variants)))


@pytest.mark.parametrize(
    ("fidelity_db", "chosen"),
    [
        (AUTO_INT8_FIDELITY_DB, "onnx-int8-u8s7"),
        (AUTO_INT8_FIDELITY_DB - 0.01, "onnx-fp32"),
    ],
    ids=["close enough", "would show"],
)
def test_auto_takes_int8_only_where_it_does_not_show(committed_bundle: Path, fidelity_db: float, chosen: str) -> None:
    bundle = Bundle.open(committed_bundle)
    floats, integers = bundle.manifest.variants
    bundle = with_variants(bundle, floats, msgspec.structs.replace(integers, fidelity_db=fidelity_db, loss=None))
    assert choose(bundle, "auto", "auto").variant.name == chosen
    assert choose(bundle, "onnxruntime", "auto").variant.name == chosen
    assert choose(bundle, "auto", "int8").variant.name == "onnx-int8-u8s7"  # who asks, gets it
    assert choose(bundle, "auto", "fp32").variant.name == "onnx-fp32"


def test_a_network_that_was_trained_in_8_bits_is_run_in_8_bits(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    floats, integers = bundle.manifest.variants
    bundle = with_variants(
        bundle, floats, msgspec.structs.replace(integers, fidelity_db=AUTO_INT8_FIDELITY_DB - 5, loss=None)
    )
    trained = msgspec.structs.replace(bundle.manifest, training=Training("qat", 1000, 0.1))
    assert choose(replace(bundle, manifest=trained), "auto", "auto").variant.name == "onnx-int8-u8s7"


@pytest.mark.parametrize(
    ("mean_db", "worst_db", "chosen"),
    [(0.1, 0.3, "onnx-int8-u8s7"), (0.11, 0.2, "onnx-fp32"), (0.05, 0.31, "onnx-fp32"), (-0.1, 0.0, "onnx-int8-u8s7")],
)
def test_auto_takes_int8_only_where_its_measured_loss_is_small(
    committed_bundle: Path, mean_db: float, worst_db: float, chosen: str, caplog: pytest.LogCaptureFixture
) -> None:
    bundle = Bundle.open(committed_bundle)
    floats, integers = bundle.manifest.variants
    loss = HeldOutLoss(mean_db, worst_db, 12, "clean")
    bundle = with_variants(bundle, floats, msgspec.structs.replace(integers, loss=loss))
    trained = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, training=Training("qat", 1000, 0.1)))
    with caplog.at_level("INFO"):
        assert choose(bundle, "auto", "auto").variant.name == chosen
    assert choose(trained, "auto", "auto").variant.name == chosen, "a measured loss counts however it was trained"
    assert choose(bundle, "auto", "int8").variant.name == "onnx-int8-u8s7"
    reason = f"onnx-int8-u8s7: not recommended: {mean_db:.2f} dB lost in the mean and {worst_db:.2f} dB"
    assert (reason in caplog.text) == (chosen == "onnx-fp32")


def test_what_was_passed_over_has_its_reason(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    floats, rough = bundle.manifest.variants  # its measured loss is too large
    engine = msgspec.structs.replace(floats, name="tensorrt-fp16", runtime="tensorrt", precision="fp16")
    choice = choose(with_variants(bundle, floats, rough, engine))
    reasons = {one.variant: one.reason for one in choice.passed_over}
    assert choice.variant.name == "onnx-fp32"
    assert reasons["onnx-int8-u8s7"].startswith("not recommended: 0.36 dB lost in the mean")
    assert "NVIDIA" in reasons["tensorrt-fp16"] or "tensorrt" in reasons["tensorrt-fp16"]
    assert [one.variant for one in choice.int8_passed_over] == ["onnx-int8-u8s7"]
    assert str(choice).startswith("chose onnx-fp32; passed over onnx-int8-u8s7: not recommended")
    asked = choose(bundle, precision="int8")
    assert (asked.variant.name, asked.passed_over, asked.int8_passed_over) == ("onnx-int8-u8s7", (), ())
    assert choose(bundle, precision="fp32").passed_over == (), "float that was asked for is no surprise"


def test_int8_of_another_runtime_has_the_command_that_builds_its_like(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    choice = choose(with_variants(bundle, *bundle.manifest.variants, FLOATS[1]), "openvino")
    assert choice.variant.name == "openvino-fp32"
    (passed,) = choice.int8_passed_over
    assert passed.reason == (
        f"it is for onnxruntime; to build one for openvino: edgedenoise compile {committed_bundle} --target openvino"
        " --precision int8"
    )


def test_a_bundle_of_rough_int8_alone_is_still_usable(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    rough = msgspec.structs.replace(bundle.manifest.variants[1], fidelity_db=20.0)
    assert choose(with_variants(bundle, rough), "auto", "auto").variant == rough


def integers(scheme: str, runtime: str = "onnxruntime", fidelity_db: float = 50.0) -> Variant:
    """An INT8 variant that exists in the manifest alone: choosing opens nothing."""
    activations = "s8" if scheme == "s8s8" else "u8"
    encoding = Encoding(scheme, activations, "s8", int(scheme[-1]))
    name = f"{'onnx' if runtime == 'onnxruntime' else runtime}-int8-{scheme}"
    return Variant(name, runtime, "int8", f"{name}/model", encoding, fidelity_db)


FLOATS = (
    Variant("onnx-fp32", "onnxruntime", "fp32", "onnx-fp32/model.onnx"),
    Variant("openvino-fp32", "openvino", "fp32", "openvino-fp32/model.xml"),
)


@pytest.mark.parametrize(
    ("cpu", "variants", "chosen"),
    [
        # 7-bit weights are exact and fast on any CPU.
        *((cpu, (integers("u8s7"),), "onnx-int8-u8s7") for cpu in (OLD_X86, AVX2, VNNI, ARM, SILENT_X86)),
        # 8-bit weights need VNNI or ARM.
        (AVX2, (integers("u8s8"),), "onnx-fp32"),
        (SILENT_X86, (integers("u8s8"),), "onnx-fp32"),
        (VNNI, (integers("u8s8"),), "onnx-int8-u8s8"),
        (ARM, (integers("u8s8"),), "onnx-int8-u8s8"),
        # Where both are fast, the one that is closer to float; where one is not, the other.
        (VNNI, (integers("u8s7"), integers("u8s8", fidelity_db=52.0)), "onnx-int8-u8s8"),
        (ARM, (integers("u8s7"), integers("u8s8", fidelity_db=52.0)), "onnx-int8-u8s8"),
        (VNNI, (integers("u8s7"), integers("u8s8", fidelity_db=49.0)), "onnx-int8-u8s7"),
        (AVX2, (integers("u8s7"), integers("u8s8", fidelity_db=52.0)), "onnx-int8-u8s7"),
        # Signed activations are an encoding for other devices, however close to float.
        (VNNI, (integers("s8s8", fidelity_db=60.0),), "onnx-fp32"),
        (ARM, (integers("s8s8", fidelity_db=60.0), integers("u8s7")), "onnx-int8-u8s7"),
        # OpenVINO before ONNX Runtime, with AVX2; its float is no reason to leave integers that are fast.
        (AVX2, (integers("u8s7"), integers("u8s7", "openvino")), "openvino-int8-u8s7"),
        (SILENT_X86, (integers("u8s7"), integers("u8s7", "openvino")), "openvino-int8-u8s7"),
        (OLD_X86, (integers("u8s7"), integers("u8s7", "openvino")), "onnx-int8-u8s7"),
        (ARM, (integers("u8s7", "openvino"),), "openvino-fp32"),
    ],
    ids=lambda value: "+".join(v.name for v in value) if isinstance(value, tuple) and len(value) != 2 else None,
)
def test_auto_takes_integers_only_where_they_are_known_to_be_faster(
    committed_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    cpu: Cpu,
    variants: tuple[Variant, ...],
    chosen: str,
) -> None:
    pretend(monkeypatch, cpu)
    monkeypatch.setattr("edgedenoise.runtimes.choosing._devices", lambda name: ("cpu",))  # both runtimes are here
    floats = FLOATS if any(v.runtime == "openvino" for v in variants) else FLOATS[:1]
    bundle = with_variants(Bundle.open(committed_bundle), *floats, *variants)
    assert choose(bundle, "auto", "auto").variant.name == chosen


def test_who_asks_for_integers_gets_them_and_those_of_this_device_first(
    committed_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, AVX2)
    bundle = Bundle.open(committed_bundle)
    slow = with_variants(bundle, FLOATS[0], integers("u8s8"), integers("s8s8", fidelity_db=60.0))
    assert choose(slow, "onnxruntime", "auto").variant.name == "onnx-fp32"
    assert choose(slow, "onnxruntime", "int8").variant.name == "onnx-int8-u8s8"
    alone = with_variants(bundle, integers("s8s8"))
    assert choose(alone, "onnxruntime", "auto").variant.name == "onnx-int8-s8s8"  # slow is better than nothing


def test_a_named_backend_leaves_out_what_would_saturate(
    committed_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = with_variants(Bundle.open(committed_bundle), FLOATS[1], integers("u8s8", "openvino", 60.0))
    pretend(monkeypatch, VNNI)
    assert choose(bundle, "openvino", "auto").variant.name == "openvino-int8-u8s8"
    pretend(monkeypatch, AVX2)
    assert choose(bundle, "openvino", "auto").variant.name == "openvino-fp32"
    # Who names it gets it, and opening it reports why it cannot run here.
    assert choose(bundle, "openvino", "int8").variant.name == "openvino-int8-u8s8"
    seven = with_variants(bundle, integers("u8s8", "openvino", 60.0), integers("u8s7", "openvino", 45.0))
    assert choose(seven, "openvino", "int8").variant.name == "openvino-int8-u8s7"


def test_integers_are_not_taken_to_a_gpu_that_has_no_kernels_for_them(
    committed_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgedenoise.runtimes.choosing._devices", lambda name: ("cpu", "cuda"))
    bundle = with_variants(Bundle.open(committed_bundle), FLOATS[0], integers("u8s7"))
    assert choose(bundle, "auto", "auto").variant.name == "onnx-int8-u8s7"
    assert choose(bundle, "auto", "auto", "cuda").variant.name == "onnx-fp32"


def test_auto_leaves_out_what_cannot_run_here(committed_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    bundle = Bundle.open(committed_bundle)
    foreign = Variant("openvino-fp32", "openvino", "fp32", "openvino-fp32/model.xml")
    unknown = Variant("quantum-fp32", "quantum", "fp32", "quantum-fp32/model.q")
    both = with_variants(bundle, foreign, unknown, *bundle.manifest.variants)
    assert choose(both, "auto", "fp32").variant.name == "onnx-fp32"
    with pytest.raises(IncompatibleError, match=r"that can run here; it has openvino-fp32 \(openvino, fp32\)"):
        choose(with_variants(bundle, foreign), "auto", "auto")
    with pytest.raises(IncompatibleError, match="it has none that this version can read"):
        choose(with_variants(bundle), "auto", "auto")


def test_a_missing_package_is_named_by_the_command_that_installs_it(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.write("openvino-fp32/model.xml", b"<net/>")
        draft.put_variant(Variant("openvino-fp32", "openvino", "fp32", "openvino-fp32/model.xml"))
    with pytest.raises(RuntimeUnavailableError, match="OpenVINO cannot run here") as caught:
        load(tiny_bundle, runtime="openvino")
    assert 'pip install "edgedenoise[openvino]"' in str(caught.value)
