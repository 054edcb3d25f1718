"""Synthetic noise is like a camera's, and the noise of an image is told from that image alone."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedenoise.errors import ImageError, UsageError
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.folders import list_images
from edgedenoise.imaging.metrics import psnr
from edgedenoise.noise import sensor
from edgedenoise.noise.blocks import BLOCK_PX
from edgedenoise.noise.cameras import BLACK_HEADROOM, CAMERAS, CoarseNoise, InCameraDenoising
from edgedenoise.noise.estimation import autocorrelation, estimate_noise
from edgedenoise.noise.in_camera import denoised_in_camera
from edgedenoise.noise.synthesis import MAX_LEVEL, add_camera_noise, parameters_for_psnr, sample_noise

if TYPE_CHECKING:
    from pathlib import Path


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def scene(side: int = 256, seed: int = 0) -> np.ndarray:
    """An image of sorts: smooth shades of every brightness and colour, with a few hard edges."""
    ramp = np.linspace(0, 1, side)
    red, green = np.meshgrid(ramp, ramp)
    image = np.stack([red, green, (red + green) / 2], axis=2)
    for corner in rng(seed).integers(0, side - side // 4, (6, 2)):
        place = slice(corner[0], corner[0] + side // 5), slice(corner[1], corner[1] + side // 5)
        image[place] = 0.3 * image[place] + 0.7 * rng(int(corner[0])).random(3)
    return np.floor(image * 255 + 0.5).astype(np.float32) / 255


def gray_ramp(levels: int = 16, side: int = 64) -> np.ndarray:
    """Fields of gray from black to white, side by side."""
    shades = (np.arange(levels) * 255 / (levels - 1)).round() / 255
    return np.repeat(np.repeat(shades[None, :], side, 0), side, 1)[..., None].repeat(3, 2).astype(np.float32)


def truth_pairs(folder: Path, count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    noisy, clean = list_images(folder / "noisy"), list_images(folder / "clean")
    step = max(1, len(noisy) // count)
    return [(read_image(a).pixels, read_image(b).pixels) for a, b in zip(noisy[::step], clean[::step], strict=True)]


# ---------------------------------------------------------------- synthesis


def test_the_same_seed_gives_the_same_image_and_another_seed_another() -> None:
    clean = scene(64)
    first = add_camera_noise(clean, sample_noise(rng(3)), rng(4))
    assert np.array_equal(first, add_camera_noise(clean, sample_noise(rng(3)), rng(4)))
    assert not np.array_equal(first, add_camera_noise(clean, sample_noise(rng(3)), rng(5)))


def test_the_result_is_an_8_bit_image_of_the_same_size_and_the_input_is_untouched() -> None:
    clean = scene(64)
    before = clean.copy()
    noisy = add_camera_noise(clean, sample_noise(rng(), level=1), rng())
    assert noisy.shape == clean.shape
    assert noisy.dtype == np.float32
    assert (noisy.min(), noisy.max()) >= (0, 0)
    assert noisy.max() <= 1
    assert np.allclose(noisy * 255, np.round(noisy * 255), atol=1e-3)
    assert np.array_equal(clean, before)


def test_a_camera_without_noise_gives_the_image_back() -> None:
    clean = scene(128)
    perfect = replace(sample_noise(rng(), camera="full-frame"), gain=1e-6, read_z=-99, row_z=-99)
    assert np.abs(add_camera_noise(clean, perfect, rng()) - clean).max() <= 1.01 / 255


@pytest.mark.parametrize("camera", CAMERAS)
def test_more_gain_is_more_noise_and_fixing_it_changes_nothing_else(camera: str) -> None:
    quality = []
    for level in (0, 0.5, 1):
        parameters = sample_noise(rng(1), level=level, camera=camera)
        quality.append(psnr(add_camera_noise(scene(), parameters, rng(2)), scene()))
        assert (parameters.read_z, parameters.tail) == (sample_noise(rng(1)).read_z, parameters.tail)
    assert quality[0] > quality[1] + 3 > quality[2] + 6
    assert 15 < quality[2] < 30


def test_read_and_row_noise_follow_the_gain_log_linearly_with_scatter() -> None:
    drawn = [sample_noise(rng(seed), camera="full-frame") for seed in range(400)]
    gain = np.log([one.gain for one in drawn])
    for sigma, line in (
        ([one.read_sigma_adu for one in drawn], CAMERAS["full-frame"].read_line),
        ([one.row_sigma_adu for one in drawn], CAMERAS["full-frame"].row_line),
    ):
        slope, offset = np.polyfit(gain, np.log(sigma), 1)
        scatter = np.std(np.log(sigma) - slope * gain - offset)
        assert (slope, offset, scatter) == pytest.approx(line, abs=0.05)


def test_shot_noise_grows_with_light_as_poisson_noise_does() -> None:
    parameters = replace(sample_noise(rng(), camera="full-frame"), gain=8.0)
    white = parameters.camera.white_adu
    for light in (0.05, 0.2, 0.8):
        found = sensor.sensor_noise(np.full((400, 400), light, np.float32), parameters, rng(1)).var() * white**2
        expected = 8 * light * white + parameters.read_sigma_adu**2 + parameters.row_sigma_adu**2 + 1 / 12
        assert found == pytest.approx(expected, rel=0.03)


def test_row_noise_moves_whole_rows() -> None:
    parameters = replace(sample_noise(rng(), camera="compact", level=1), read_z=-99)
    found = sensor.sensor_noise(np.zeros((1000, 50), np.float32), parameters, rng(1)) * parameters.camera.white_adu
    assert np.ptp(found, axis=1).max() == 0
    assert found[:, 0].std() == pytest.approx(parameters.row_sigma_adu, rel=0.1)


def test_the_converter_gives_whole_numbers_from_black_to_white() -> None:
    parameters = sample_noise(rng(), camera="phone", level=1)
    light = np.linspace(0, 1, 10_000, dtype=np.float32).reshape(100, 100)
    recorded = (light + sensor.sensor_noise(light, parameters, rng(1))) * parameters.camera.white_adu
    whole = np.rint(recorded[recorded > -parameters.camera.white_adu / 31 + 0.5])  # black itself lies between two
    assert np.abs(recorded[recorded > -parameters.camera.white_adu / 31 + 0.5] - whole).max() < 0.01
    assert recorded.max() == pytest.approx(parameters.camera.white_adu, rel=1e-5)


@pytest.mark.parametrize("camera", CAMERAS)
def test_the_usual_headroom_is_a_part_of_the_raw_range_to_the_last_bit(camera: str) -> None:
    white = CAMERAS[camera].white_adu
    assert np.float32(white * BLACK_HEADROOM) == np.float32(white) / 31


def test_without_headroom_noise_in_the_shadows_is_clipped_at_black() -> None:
    parameters = sample_noise(rng(), camera="phone", level=1)
    dark = np.zeros((64, 64), np.float32)
    usual, clipped = (
        sensor.sensor_noise(dark, replace(parameters, black_headroom=share), rng(1)) for share in (BLACK_HEADROOM, 0)
    )
    assert usual.min() < 0 == clipped.min()
    assert np.array_equal(clipped, np.maximum(usual, 0))


def test_coarse_noise_adds_energy_that_survives_a_mean_over_its_grains() -> None:
    clean = np.full((256, 256, 3), 0.5, np.float32)
    parameters = sample_noise(rng(3), level=0.8)
    fine = add_camera_noise(clean, parameters, rng(1)) - clean
    coarse = add_camera_noise(clean, replace(parameters, coarse=CoarseNoise(4, 0.8, 0.66)), rng(1)) - clean
    energies = [np.square(error).mean() for error in (fine, coarse)]
    assert energies[1] / energies[0] == pytest.approx(1 + 0.8**2, rel=0.15)
    means = [error.reshape(64, 4, 64, 4, 3).mean(axis=(1, 3)) for error in (fine, coarse)]
    assert means[1].var() > 2 * means[0].var()


def test_coarse_noise_is_as_gray_as_asked() -> None:
    clean = np.full((256, 256, 3), 0.5, np.float32)
    parameters = sample_noise(rng(3), level=0.8)
    noise = np.random.default_rng(0).normal(0, 0.05, clean.shape).astype(np.float32)
    shared = []
    for gray in (0, 0.5, 1):
        grains = sensor.coarse_noise(clean, noise, parameters, CoarseNoise(4, 0.5, gray), rng(1))
        assert grains.std() == pytest.approx(0.5 * 0.05, rel=0.1)
        shared.append(np.corrcoef(grains.reshape(-1, 3).T)[np.triu_indices(3, 1)].mean())
    assert shared == pytest.approx([0, 0.5, 1], abs=0.1)


def test_in_camera_denoising_smooths_flat_places_and_spares_texture() -> None:
    columns = np.arange(256)
    clean = np.full((256, 256, 3), 0.5, np.float32)
    clean[:, 128:] += (0.2 * np.sin(columns[128:] * 1.3)).astype(np.float32)[None, :, None]
    noise = np.random.default_rng(0).normal(0, 0.03, clean.shape).astype(np.float32)
    left = denoised_in_camera(noise, clean, InCameraDenoising(1.0, 2.0, 1.0))
    flat, texture = left[16:-16, 16:112], left[16:-16, 144:240]
    assert flat.std() < 0.4 * noise.std()
    assert texture.std() > 0.9 * noise.std()
    gray = flat.mean(axis=2)
    assert np.corrcoef(gray[:, 1:].ravel(), gray[:, :-1].ravel())[0, 1] == pytest.approx(np.exp(-1 / 4), abs=0.05)


def test_in_camera_denoising_smooths_colour_more_than_brightness() -> None:
    clean = np.full((128, 128, 3), 0.5, np.float32)
    noise = np.random.default_rng(0).normal(0, 0.03, clean.shape).astype(np.float32)
    left = denoised_in_camera(noise, clean, InCameraDenoising(0.0, 2.0, 1.0))
    np.testing.assert_allclose(left.mean(axis=2), noise.mean(axis=2), atol=1e-6)
    colour = left - left.mean(axis=2, keepdims=True)
    assert colour.std() < 0.25 * (noise - noise.mean(axis=2, keepdims=True)).std()
    np.testing.assert_allclose(denoised_in_camera(noise, clean, InCameraDenoising(0.0, 0.0, 1.0)), noise, atol=1e-7)


def test_a_camera_that_denoises_writes_whole_levels_with_less_noise() -> None:
    clean = np.full((128, 128, 3), 0.5, np.float32)
    parameters = sample_noise(rng(3), level=0.8)
    denoising = InCameraDenoising(1.0, 2.0, 1.0)
    usual, quiet = (add_camera_noise(clean, replace(parameters, denoising=d), rng(1)) for d in (None, denoising))
    assert (quiet - clean).std() < 0.5 * (usual - clean).std()
    np.testing.assert_allclose(quiet * 255, np.rint(quiet * 255), atol=1e-4)


def test_whole_chroma_keeps_colour_that_halved_chroma_blurs() -> None:
    checks = np.zeros((64, 64, 3), np.float32)
    checks[::2, ::2] = checks[1::2, 1::2] = (0.8, 0.2, 0.2)
    checks[1::2, ::2] = checks[::2, 1::2] = (0.2, 0.2, 0.8)
    quiet = replace(sample_noise(rng(), camera="full-frame"), gain=1e-6, read_z=-99, row_z=-99, jpeg_quality=95)
    halved, whole = (
        np.abs(add_camera_noise(checks, replace(quiet, jpeg_chroma_halved=half), rng()) - checks).mean()
        for half in (True, False)
    )
    assert whole < halved / 4


@pytest.mark.parametrize("tail", [-0.2, 0.0, 0.14])
def test_read_noise_has_unit_variance_and_tails_as_heavy_as_asked(tail: float) -> None:
    drawn = sensor._tukey_lambda((1000, 1000), tail, rng()).astype(np.float64)
    assert drawn.std() == pytest.approx(1, rel=0.03)
    kurtosis = (drawn**4).mean() / drawn.var() ** 2
    assert {-0.2: kurtosis > 7, 0.0: 3.8 < kurtosis < 4.6, 0.14: 2.8 < kurtosis < 3.2}[tail]


@pytest.mark.parametrize("malvar", [0.0, 0.5, 1.0])
def test_demosaicking_keeps_flat_colours_and_ramps(malvar: float) -> None:
    rows, columns = np.mgrid[0:12, 0:14].astype(np.float32)
    ramps = np.stack([0.1 + 0.01 * rows, 0.5 - 0.02 * columns, 0.2 + 0.01 * (rows + columns)], axis=2)
    ramps[..., 0] = ramps[..., 2] = ramps[..., 1] - 0.1 if malvar else ramps[..., 2]
    again = sensor.demosaicked(sensor.mosaicked(ramps), malvar)
    assert np.abs(again - ramps)[3:-3, 3:-3].max() < 1e-6


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("level", [0.3, 0.7, 1.0])
def test_neighbouring_pixels_share_noise_as_real_ones_do(camera: str, level: float) -> None:
    clean = scene()
    found = []
    for seed in range(3):
        noisy = add_camera_noise(clean, sample_noise(rng(seed), level=level, camera=camera), rng(seed))
        found.append(autocorrelation(noisy - clean))
    lag_1, lag_2, lag_4 = np.mean(found, axis=0)[[0, 1, 3]]
    assert 0.2 < lag_1 < 0.6
    assert lag_1 > lag_2 > lag_4
    assert abs(lag_4) < 0.1


@pytest.mark.parametrize("jpeg", [False, True])
def test_no_draw_of_a_camera_leaves_the_correlation_of_real_ones(jpeg: bool) -> None:
    clean = scene(192)
    found = []
    for seed in range(40):
        noisy = add_camera_noise(clean, sample_noise(rng(seed), jpeg=jpeg), rng(seed))
        found.append(autocorrelation(noisy - clean)[0])
    assert min(found) > 0.2, sorted(found)
    assert max(found) < 0.6, sorted(found)


def test_a_stronger_colour_matrix_makes_noise_more_colourful() -> None:
    clean = scene()
    shared = []
    for share in (0.0, 0.5, 1.0):
        parameters = replace(sample_noise(rng(1), level=0.7, camera="phone"), matrix=share)
        error = (add_camera_noise(clean, parameters, rng()) - clean).reshape(-1, 3)
        shared.append(np.corrcoef(error.T)[np.triu_indices(3, 1)].mean())
    assert shared[0] > shared[1] + 0.1 > shared[2] + 0.2


@pytest.mark.parametrize("target_db", [20, 30, 36])
def test_noise_rises_from_black_to_the_mid_tones_and_falls_towards_white(target_db: float) -> None:
    clean = gray_ramp()
    curve = np.zeros(16)
    for seed in range(4):
        noisy = add_camera_noise(clean, parameters_for_psnr(clean, target_db, rng(seed)), rng(seed))
        error = (noisy - clean).reshape(64, 16, 64, 3) * 255
        curve += error.std(axis=(0, 2, 3)) / 4
    black, shadow, middle, white = curve[0], curve[3], curve[4:12].mean(), curve[-1]
    assert black < shadow < middle * 1.1
    assert white < 0.5 * middle
    assert curve[13] < middle


def test_noise_hardly_changes_the_mean_brightness() -> None:
    clean = gray_ramp()
    noisy = add_camera_noise(clean, parameters_for_psnr(clean, 28, rng()), rng())
    shift = (noisy - clean).reshape(64, 16, 64, 3).mean(axis=(0, 2, 3)) * 255
    assert np.abs(shift[3:14]).max() < 2  # at black and white, clipping leaves one side only


@pytest.mark.parametrize(
    ("target_db", "jpeg"), [(15, False), (20, False), (28, False), (42, False), (15, True), (25, True)]
)
def test_a_wanted_psnr_is_met(target_db: float, jpeg: bool) -> None:
    clean = scene(200)
    parameters = parameters_for_psnr(clean, target_db, rng(7), jpeg=jpeg)
    assert psnr(add_camera_noise(clean, parameters, rng(8)), clean) == pytest.approx(target_db, abs=0.3)
    assert (parameters.jpeg_quality is not None) == jpeg


def test_a_wanted_psnr_is_met_on_a_large_image_by_patches_of_it() -> None:
    clean = scene(1100)
    parameters = parameters_for_psnr(clean, 20, rng(7))
    assert psnr(add_camera_noise(clean, parameters, rng(8)), clean) == pytest.approx(20, abs=0.4)


def test_jpeg_leaves_its_blocks_in_the_noise() -> None:
    parameters = sample_noise(rng(2), level=0.7)
    plain = add_camera_noise(scene(), parameters, rng())
    packed = add_camera_noise(scene(), replace(parameters, jpeg_quality=85), rng())
    assert 25 < psnr(plain, packed) < 45


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (2, 2), (7, 3)])
def test_tiny_and_odd_images_are_no_exception(shape: tuple[int, int]) -> None:
    noisy = add_camera_noise(np.full((*shape, 3), 0.5), sample_noise(rng(), level=0.5), rng())
    assert noisy.shape == (*shape, 3)
    assert math.isfinite(parameters_for_psnr(np.full((*shape, 3), 0.5), 20, rng()).gain)


def test_grayscale_and_8_bit_arrays_are_accepted() -> None:
    assert add_camera_noise(np.full((8, 8), 90, np.uint8), sample_noise(rng()), rng()).shape == (8, 8, 3)


def test_a_megapixel_takes_well_under_a_second() -> None:
    clean = scene(1024)
    add_camera_noise(clean[:64, :64], sample_noise(rng()), rng())
    start = time.process_time()  # not the clock on the wall: the machine may be busy
    add_camera_noise(clean, sample_noise(rng(), level=0.8), rng())
    assert time.process_time() - start < 1.5


def test_a_level_beyond_1_goes_beyond_the_cameras_highest_gain() -> None:
    highest, pushed = (sample_noise(rng(), level=level, camera="phone") for level in (1.0, MAX_LEVEL))
    assert highest.gain == pytest.approx(CAMERAS["phone"].gain_range[1])
    assert pushed.gain > 2 * highest.gain


def test_wrong_wishes_are_named() -> None:
    with pytest.raises(UsageError, match="expected one of full-frame"):
        sample_noise(rng(), camera="box")
    with pytest.raises(UsageError, match=r"0 to 1\.25"):
        sample_noise(rng(), level=MAX_LEVEL + 0.01)
    with pytest.raises(UsageError, match="8 to 50"):
        parameters_for_psnr(scene(32), math.nan, rng())
    with pytest.raises(UsageError, match="gain above 0"):
        replace(sample_noise(rng()), gain=0.0)
    with pytest.raises(ImageError):
        add_camera_noise(np.zeros((4, 4, 4)), sample_noise(rng()), rng())


# ---------------------------------------------------------------- estimate


@pytest.mark.parametrize("sigma", [1, 5, 25])
def test_independent_noise_is_read_within_5_percent_and_as_uncorrelated(sigma: float) -> None:
    image = 0.5 + rng().normal(0, sigma / 255, (256, 256, 3))
    found = estimate_noise(image)
    assert found.sigma == pytest.approx(sigma, rel=0.05)
    assert np.abs(found.autocorrelation).max() < 0.06


@pytest.mark.parametrize("target_db", [20, 26, 34])
@pytest.mark.parametrize("seed", range(3))
def test_camera_noise_on_a_smooth_scene_is_read_within_25_percent(seed: int, target_db: float) -> None:
    clean = scene(384, seed)
    noisy = add_camera_noise(clean, parameters_for_psnr(clean, target_db, rng(seed)), rng(seed))
    found = estimate_noise(noisy)
    truth = float(np.sqrt(((noisy - clean) ** 2).mean())) * 255
    assert found.sigma == pytest.approx(truth, rel=0.25)
    assert found.autocorrelation[0] == pytest.approx(autocorrelation(noisy - clean)[0], abs=0.1)


def test_noise_is_told_apart_by_channel_and_by_brightness() -> None:
    image = gray_ramp(16, 64).repeat(2, axis=0) * 0.9 + 0.05
    sigma = np.array([2, 4, 8]) / 255 * (0.5 + image)
    found = estimate_noise(image + rng().normal(0, 1, image.shape) * sigma)
    for bin_, brightness in enumerate(found.brightness_levels):
        row = found.sigma_by_brightness[bin_]
        if np.isfinite(row).all():
            assert row == pytest.approx([scale * (0.5 + brightness / 255) for scale in (2, 4, 8)], rel=0.2)
    assert np.isfinite(found.sigma_by_brightness).all(axis=1).sum() >= 10
    assert found.sigma_levels[0] < found.sigma_levels[1] < found.sigma_levels[2]


def test_a_clean_scene_has_next_to_no_noise_and_16_bits_read_as_8() -> None:
    assert estimate_noise(scene(384)).sigma < 0.6
    noisy = np.clip(0.5 + rng().normal(0, 10 / 255, (128, 128, 3)), 0, 1)
    as_8, as_16 = (estimate_noise((noisy * top).astype(kind)) for top, kind in ((255, "u1"), (65535, "u2")))
    assert as_8.sigma == pytest.approx(as_16.sigma, rel=0.01)


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("shape", [(16, 16, 3), (50, 17), (16, 300, 1)])
def test_small_and_uniform_images_have_no_noise(shape: tuple[int, ...], value: int) -> None:
    found = estimate_noise(np.full(shape, value, np.uint8))
    assert found.sigma < 1e-3
    assert np.isfinite(found.autocorrelation).all()
    assert found.clipped_share == (value != 128)


def test_what_is_too_small_to_judge_is_refused() -> None:
    with pytest.raises(ImageError, match=f"{BLOCK_PX} x {BLOCK_PX}"):
        estimate_noise(np.zeros((15, 400, 3), np.uint8))
    with pytest.raises(ImageError, match="at least"):
        autocorrelation(np.zeros((15, 400, 3)))


@pytest.mark.parametrize(("name", "low", "high"), [("sidd_dev", 0.8, 1.05), ("polyu_test", 0.65, 1.05)])
def test_real_noise_is_read_where_the_truth_is_known(data_root: Path, name: str, low: float, high: float) -> None:
    ratios, lags = [], []
    for noisy, clean in truth_pairs(data_root / name, 16):
        error = noisy.astype(np.float32) - clean
        found = estimate_noise(noisy)
        ratios.append(found.sigma / float(np.sqrt((error**2).mean())))
        lags.append(found.autocorrelation[0] - autocorrelation(error)[0])
    assert low < np.median(ratios) < high, sorted(ratios)
    assert abs(np.median(lags)) < 0.15


@pytest.mark.parametrize(("name", "camera", "jpeg"), [("sidd_dev", "phone", False), ("polyu_test", "aps-c", True)])
def test_noise_made_for_the_same_images_is_like_their_real_noise(
    data_root: Path, name: str, camera: str, jpeg: bool
) -> None:
    lags, sigmas = [], []
    for seed, (noisy, clean) in enumerate(truth_pairs(data_root / name, 8)):
        noisy, clean = noisy[:256, :256], clean[:256, :256]
        parameters = parameters_for_psnr(clean, psnr(noisy, clean), rng(seed), camera=camera, jpeg=jpeg)
        made = add_camera_noise(clean, parameters, rng(seed)) * 255
        errors = [noisy.astype(np.float32) - clean, made - clean]
        lags.append([autocorrelation(error)[:4] for error in errors])
        gray = clean.mean(axis=2)
        for low in range(0, 256, 32):
            there = (gray >= low) & (gray < low + 32)
            if there.sum() > 2000:
                sigmas.append([math.sqrt((error[there] ** 2).mean()) for error in errors])
    real_lags, made_lags = np.mean(lags, axis=0)
    assert np.abs(made_lags - real_lags).max() < 0.15, (real_lags, made_lags)
    ratios = np.divide(*np.transpose(sigmas))
    assert 0.8 < np.median(ratios) < 1.25, sorted(ratios)
    assert (np.abs(np.log(ratios)) < math.log(1.6)).mean() > 0.8, sorted(ratios)


@pytest.mark.parametrize("name", ["sidd_dev", "polyu_test"])
def test_real_noise_lies_where_synthetic_noise_does(data_root: Path, name: str) -> None:
    """The bounds that the tests above hold synthetic noise to are those of real cameras."""
    lags, levels, errors = [], [], []
    for noisy, clean in truth_pairs(data_root / name, 16):
        error = noisy.astype(np.float32) - clean
        lags.append(autocorrelation(error)[0])
        levels.append(clean.mean(axis=2).ravel())
        errors.append(error.std(axis=2).ravel() ** 2 + error.mean(axis=2).ravel() ** 2)
    assert 0.2 < np.median(lags) < 0.65
    level, square = np.concatenate(levels), np.concatenate(errors)
    if name == "polyu_test":  # sidd_dev has no highlights
        black, middle, white = (
            math.sqrt(square[(level >= low) & (level < high)].mean()) for low, high in ((0, 16), (48, 128), (200, 256))
        )
        assert black < middle > white
