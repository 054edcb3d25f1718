"""Files in, files out: each whole or reported, none overwritten by accident."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest
from PIL import Image as PILImage

from edgedenoise.batch import pipeline
from edgedenoise.batch.results import Counts
from edgedenoise.batch.run import denoise_files
from edgedenoise.denoiser import Denoiser, denoise
from edgedenoise.errors import (
    BundleError,
    DamagedImageError,
    DeviceMemoryError,
    ImageError,
    OutputError,
    RuntimeUnavailableError,
    UsageError,
)
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.folders import SUB_FOLDER
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.metadata.embedded import Metadata

if TYPE_CHECKING:
    from collections.abc import Callable

    Contents = Callable[[Path], dict[str, bytes]]


def pixels(seed: int, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (30, 40, 3), dtype=dtype)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a.png, b.jpg and c.png, and something else."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(("a.png", "b.jpg", "c.png")):
        write_image(Image(pixels(seed)), folder / name)
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_one_file_to_one_file(photos: Path, committed_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "result.png"
    report = denoise_files([photos / "a.png"], out, committed_bundle, precision="fp32")
    expected = denoise(pixels(0), committed_bundle, precision="fp32")
    np.testing.assert_array_equal(read_image(out).pixels, expected)
    assert [(r.source, r.output, r.error) for r in report.files] == [(photos / "a.png", out, None)]
    assert report.failures == ()
    assert report.variant == "onnx-fp32"
    assert report.effective.runtime == "onnxruntime"


def test_a_file_may_change_its_format_by_its_ending(photos: Path, committed_bundle: Path, tmp_path: Path) -> None:
    denoise_files([photos / "b.jpg"], tmp_path / "b.tif", committed_bundle)
    assert read_image(tmp_path / "b.tif").format == "TIFF"


@pytest.mark.parametrize("as_folder", [True, False], ids=["folder", "files"])
def test_several_go_into_a_folder_and_keep_their_names(
    photos: Path, committed_bundle: Path, tmp_path: Path, contents: Contents, as_folder: bool
) -> None:
    given = [photos] if as_folder else [photos / "a.png", photos / "b.jpg", photos / "c.png"]
    stages: list[tuple[str, int, int]] = []
    report = denoise_files(
        given,
        tmp_path / "out",
        committed_bundle,
        progress=lambda stage, done, total, note="": stages.append((stage, done, total)),
    )
    assert sorted(contents(tmp_path / "out")) == ["a.png", "b.jpg", "c.png"]
    assert len(report.files) == 3
    assert not report.failures
    assert [s for s in stages if s[0] == "denoise"] == [("denoise", done, 3) for done in range(4)]
    assert stages.count(("tiles", 1, 1)) == 3  # and within each image
    for name in ("a.png", "b.jpg", "c.png"):
        photo = read_image(tmp_path / "out" / name)
        assert photo.pixels.shape == (30, 40, 3)
        assert photo.format == ("JPEG" if name == "b.jpg" else "PNG")


def test_one_file_into_an_existing_folder(photos: Path, committed_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "out.d").mkdir()
    denoise_files([photos / "a.png"], tmp_path / "out.d", committed_bundle)
    assert [p.name for p in (tmp_path / "out.d").iterdir()] == ["a.png"]


def test_16_bits_stay_16_bits(committed_bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("imagecodecs", reason='pip install "edgedenoise[io]"')
    given = pixels(5, np.uint16)
    write_image(Image(given), tmp_path / "deep.png")
    denoise_files([tmp_path / "deep.png"], tmp_path / "out.png", committed_bundle)
    answer = read_image(tmp_path / "out.png").pixels
    assert answer.dtype == np.uint16
    assert len(np.unique(answer)) > 256
    np.testing.assert_array_equal(answer, denoise(given, committed_bundle))


def test_a_damaged_file_among_good_ones_costs_itself_only(
    photos: Path, committed_bundle: Path, tmp_path: Path, contents: Contents
) -> None:
    whole = (photos / "b.jpg").read_bytes()
    (photos / "b.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "d.jpg").write_text("a text file, called an image")
    report = denoise_files([photos], tmp_path / "out", committed_bundle)
    assert sorted(contents(tmp_path / "out")) == ["a.png", "c.png"]  # and nothing half-written
    assert [(r.source.name, r.output, type(r.error)) for r in report.failures] == [
        ("b.jpg", None, DamagedImageError),
        ("d.jpg", None, ImageError),
    ]
    assert all(str(r.source) in str(r.error) for r in report.failures)


def test_an_image_that_needs_a_missing_package_is_reported_and_the_others_are_written(
    photos: Path, committed_bundle: Path, tmp_path: Path, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(Image(pixels(7, np.uint16)), photos / "b.tif")
    monkeypatch.setitem(sys.modules, "tifffile", None)
    report = denoise_files([photos], tmp_path / "out", committed_bundle)
    assert sorted(contents(tmp_path / "out")) == ["a.png", "b.jpg", "c.png"]
    (failure,) = report.failures
    assert (failure.source.name, type(failure.error)) == ("b.tif", RuntimeUnavailableError)
    assert report.variant is not None
    assert 'pip install "edgedenoise[io]"' in str(failure.error)


@pytest.mark.parametrize("where", ["reading", "denoising"])
@pytest.mark.parametrize("raised", [MemoryError(), DeviceMemoryError("too large")], ids=["host", "device"])
def test_an_image_that_does_not_fit_into_memory_is_reported_and_the_others_are_written(
    photos: Path,
    committed_bundle: Path,
    tmp_path: Path,
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    raised: Exception,
) -> None:
    def failing(function: Callable[..., Any], is_b: Callable[[Any], bool]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            if any(is_b(argument) for argument in arguments):
                raise raised
            return function(*arguments, **options)

        return called

    if where == "reading":
        monkeypatch.setattr(pipeline, "read_image", failing(read_image, lambda path: path == photos / "b.jpg"))
    else:
        is_b = failing(Denoiser.__call__, lambda image: isinstance(image, Image) and image.format == "JPEG")
        monkeypatch.setattr(Denoiser, "__call__", is_b)
    report = denoise_files([photos], tmp_path / "out", committed_bundle, tile=64)
    assert sorted(contents(tmp_path / "out")) == ["a.png", "c.png"]
    (failure,) = report.failures
    assert (failure.source.name, type(failure.error)) == ("b.jpg", DeviceMemoryError)
    if where == "reading" and isinstance(raised, MemoryError):
        again = f"denoise {photos / 'b.jpg'} -o {tmp_path / 'out' / 'b.jpg'} --model {committed_bundle} --tile 64"
        assert str(failure.error).endswith(f"edgedenoise {again}")


def deep(tmp_path: Path) -> tuple[Path, str]:
    gray = np.random.default_rng(0).integers(0, 65536, (20, 20, 1), dtype=np.uint16)
    write_image(Image(gray), tmp_path / "in.png")
    return tmp_path / "in.png", "expected 8 bits per sample in JPEG, got 16"


def transparent(tmp_path: Path) -> tuple[Path, str]:
    write_image(Image(pixels(0), pixels(0)[..., 0].copy()), tmp_path / "in.png")
    return tmp_path / "in.png", "JPEG holds no transparency: expected no alpha channel, got one"


def long_exif(tmp_path: Path) -> tuple[Path, str]:
    exif = PILImage.Exif()
    exif[0x010E] = "x" * 70_000
    meta = Metadata(exif=exif.tobytes().removeprefix(b"Exif\x00\x00"))
    write_image(Image(pixels(0), metadata=meta), tmp_path / "in.png")
    return tmp_path / "in.png", "bytes of EXIF in a JPEG"


def too_wide(tmp_path: Path) -> tuple[Path, str]:
    write_image(Image(np.zeros((1, 65501, 1), np.uint8)), tmp_path / "in.png")
    return tmp_path / "in.png", "at most 65500 pixels per side in JPEG, got 65501 x 1"


def long_profile(tmp_path: Path) -> tuple[Path, str]:
    write_image(Image(pixels(0), metadata=Metadata(icc=bytes(17_000_000))), tmp_path / "in.tif")
    return tmp_path / "in.tif", "colour profile of at most"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transparency": 0}, "JPEG holds no transparency: expected no alpha channel, got one"),
        ({"frames": 3}, "expected one frame in JPEG, got an animation of 3"),
        ({"frames": 3, "transparency": 0}, "expected one frame in JPEG, got an animation of 3"),
    ],
)
@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP"])
def test_what_jpeg_cannot_hold_of_an_animation_is_named_with_the_command_that_helps(
    committed_bundle: Path, tmp_path: Path, format_: str, options: dict[str, int], message: str
) -> None:
    """Frames of GIF files are often transparent where they do not change: the animation is what matters."""
    source, alpha = tmp_path / f"in.{format_.lower()}", "transparency" in options
    shown = [np.dstack([pixels(number), pixels(0)[..., :1] // 128 * 255])[..., : 3 + alpha] for number in range(3)]
    first, *others = (PILImage.fromarray(frame) for frame in shown[: options.get("frames", 1)])
    first.save(source, format_, save_all=bool(others), append_images=others)
    (failure,) = denoise_files([source], tmp_path / "out.jpg", committed_bundle).failures
    assert failure.error is not None
    assert message in failure.error.message
    other = tmp_path / "out.png"
    assert failure.error.hint is not None
    assert failure.error.hint.startswith(f"Write {other} instead: edgedenoise denoise {source} -o {other} ")


@pytest.mark.parametrize("make", [deep, transparent, long_exif, too_wide, long_profile])
def test_an_output_that_the_format_cannot_hold_is_reported_before_any_tile_is_run(
    committed_bundle: Path, tmp_path: Path, make: Callable[[Path], tuple[Path, str]]
) -> None:
    source, message = make(tmp_path)
    tiles: list[int] = []
    (failure,) = denoise_files(
        [source],
        tmp_path / "out.jpg",
        committed_bundle,
        progress=lambda stage, done, total, note="": tiles.append(done) if stage == "tiles" else None,
    ).failures
    assert message in str(failure.error)
    assert f"Write {tmp_path / 'out.png'} instead" in str(failure.error)
    assert tiles == []
    assert not (tmp_path / "out.jpg").exists()


def test_an_output_that_cannot_be_written_is_reported_before_any_tile_is_run(
    photos: Path, committed_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    tiles: list[int] = []
    report = denoise_files(
        [photos / "a.png"],
        tmp_path / "out",
        committed_bundle,
        progress=lambda stage, done, total, note="": tiles.append(done) if stage == "tiles" else None,
    )
    assert [type(failure.error) for failure in report.failures] == [OutputError]
    assert tiles == []


def test_of_two_inputs_with_one_output_the_second_is_refused_with_the_command_that_denoises_it(
    photos: Path, committed_bundle: Path, tmp_path: Path, contents: Contents
) -> None:
    second, out = tmp_path / "other" / "a.png", tmp_path / "out"
    write_image(Image(pixels(9)), second)
    report = denoise_files([photos, second], out, committed_bundle, precision="fp32", strength=0.5)
    assert sorted(contents(out)) == ["a.png", "b.jpg", "c.png"]
    (failure,) = report.failures
    assert failure.source == second
    assert isinstance(failure.error, UsageError)
    assert f"{photos / 'a.png'} and {second} would both be written to {out / 'a.png'}" in failure.error.message
    again = f"edgedenoise denoise {second} -o {out / 'a-2.png'} --model {committed_bundle}"
    assert str(failure.error.hint).endswith(f"{again} --precision fp32 --strength 0.5")


def test_a_raw_file_beside_its_tiff_is_refused_and_is_no_existing_output(
    photos: Path, committed_bundle: Path, tmp_path: Path
) -> None:
    write_image(Image(pixels(7)), photos / "x.tif")
    for name in ("x.NEF", "x.DNG"):
        shutil.copy(photos / "x.tif", photos / name)
    first = denoise_files([photos], tmp_path / "out", committed_bundle)
    assert [(failure.source.name, type(failure.error)) for failure in first.failures] == [
        ("x.DNG", UsageError),
        ("x.NEF", UsageError),
    ]
    assert (tmp_path / "out" / "x.tif").exists()
    assert [str(failure.error).rpartition("-o ")[2].split()[0] for failure in first.failures] == [
        str(tmp_path / "out" / name) for name in ("x-2.tif", "x-3.tif")
    ]
    second = denoise_files([photos], tmp_path / "out", committed_bundle, existing="skip")
    assert [failure.source.name for failure in second.failures] == ["x.DNG", "x.NEF"]


def test_an_image_named_twice_is_denoised_once(
    photos: Path, committed_bundle: Path, tmp_path: Path, contents: Contents
) -> None:
    report = denoise_files([photos, photos / "a.png"], tmp_path / "out", committed_bundle)
    assert report.failures == ()
    assert sorted(contents(tmp_path / "out")) == ["a.png", "b.jpg", "c.png"]
    assert (photos / "a.png", "it is among the inputs twice") in [(e.path, e.reason) for e in report.left_out]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("recursive", [False, True])
def test_pipes_and_devices_are_refused_without_being_opened(
    photos: Path, committed_bundle: Path, tmp_path: Path, recursive: bool
) -> None:
    os.mkfifo(photos / "pipe.png")
    given = [photos / "a.png", photos / "pipe.png", Path("/dev/null")]
    report = denoise_files(given, tmp_path / "out", committed_bundle, recursive=recursive)
    assert report.counts.denoised == 1
    pipe, device = report.failures
    assert "pipe.png cannot be read as an image: expected a file or a folder, got a pipe" in str(pipe.error)
    assert f"cat {photos / 'pipe.png'} > copy.png" in str(pipe.error)
    assert "got a device" in str(device.error)
    found = denoise_files([photos], tmp_path / "all", committed_bundle, recursive=recursive)
    assert (photos / "pipe.png", "not a file that can be read") in [(e.path, e.reason) for e in found.left_out]


def test_a_broken_link_is_named_with_its_target(photos: Path, committed_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ImageError, match=r"link\.png is a broken link.*got .*gone\.png"):
        denoise_files([tmp_path / "link.png"], tmp_path / "out", committed_bundle)


def test_an_output_folder_that_cannot_be_made_is_reported_with_the_path_that_was_given(
    photos: Path, committed_bundle: Path
) -> None:
    target = photos / "notes.txt" / "result.png"
    with pytest.raises(OutputError, match=r"notes\.txt/result\.png cannot be written"):
        denoise_files([photos / "a.png"], target, committed_bundle)


def test_macos_does_not_distinguish_names_by_case_and_composition(
    photos: Path, committed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(Image(pixels(9)), tmp_path / "one" / "caf\u00e9.png")
    write_image(Image(pixels(9)), tmp_path / "two" / "CAFE\u0301.png")
    monkeypatch.setattr(sys, "platform", "darwin")
    report = denoise_files([tmp_path / "one", tmp_path / "two"], tmp_path / "out", committed_bundle)
    assert ["would both be written to" in str(failure.error) for failure in report.failures] == [True]


@pytest.mark.parametrize("how", ["folder onto itself", "file onto itself", "through a link"])
def test_an_input_is_never_overwritten(
    photos: Path, committed_bundle: Path, tmp_path: Path, contents: Contents, how: str
) -> None:
    before = contents(photos)
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    given, out = {
        "folder onto itself": (photos, photos),
        "file onto itself": (photos / "a.png", photos / "a.png"),
        "through a link": (photos / "a.png", tmp_path / "link"),
    }[how]
    with pytest.raises(UsageError, match="would overwrite its own input"):
        denoise_files([given], out, committed_bundle)
    assert contents(photos) == before


def test_several_inputs_do_not_fit_into_one_file(photos: Path, committed_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out\.png") as caught:
        denoise_files([photos / "a.png", photos / "c.png"], tmp_path / "out.png", committed_bundle, strength=0.5)
    given = f"{photos / 'a.png'} {photos / 'c.png'} -o {tmp_path / 'out'} --model {committed_bundle} --strength 0.5"
    assert caught.value.hint == f"Name a folder: edgedenoise denoise {given}"
    assert not (tmp_path / "out.png").exists()


def test_nothing_to_do_is_an_error(photos: Path, committed_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no images to denoise.*empty"):
        denoise_files([tmp_path / "empty"], tmp_path / "out", committed_bundle)
    with pytest.raises(UsageError, match="an empty list"):
        denoise_files([], tmp_path / "out", committed_bundle)
    with pytest.raises(ImageError, match=r"no file or folder .*missing\.png"):
        denoise_files([tmp_path / "missing.png"], tmp_path / "out", committed_bundle)
    with pytest.raises(BundleError, match="no bundle at"):
        denoise_files([photos], tmp_path / "out", tmp_path / "nowhere.edge")
    assert not (tmp_path / "out").exists()


def test_what_is_not_read_is_named_and_counted(photos: Path, committed_bundle: Path, tmp_path: Path) -> None:
    (photos / "trip").mkdir()
    report = denoise_files([photos], tmp_path / "out", committed_bundle)
    assert {entry.path.name: entry.reason for entry in report.left_out} == {
        "notes.txt": "no image format has the extension .txt",
        "trip": SUB_FOLDER,
    }
    assert report.counts == Counts(denoised=3, failed=0, left_out=2)


def test_sub_folders_keep_their_tree_and_outputs_within_the_input_are_not_read_again(
    photos: Path, committed_bundle: Path, contents: Contents
) -> None:
    write_image(Image(pixels(4)), photos / "trip" / "day 2" / "a.png")  # the name of an image above it
    out = photos / "denoised"
    for existing in ("error", "overwrite"):
        report = denoise_files([photos], out, committed_bundle, recursive=True, existing=existing)
        assert report.failures == ()
        assert sorted(contents(out)) == ["a.png", "b.jpg", "c.png", "trip/day 2/a.png"]


def test_a_folder_of_sub_folders_alone_hints_at_the_option(committed_bundle: Path, tmp_path: Path) -> None:
    write_image(Image(pixels(4)), tmp_path / "photos" / "trip" / "a.png")
    with pytest.raises(UsageError, match="1 left out") as caught:
        denoise_files([tmp_path / "photos"], tmp_path / "out", committed_bundle)
    again = f"edgedenoise denoise {tmp_path / 'photos'} -o {tmp_path / 'out'} --model {committed_bundle} -r"
    assert caught.value.hint == f"Read the sub-folders too: {again}"


def test_a_missing_file_among_others_costs_itself_only(
    photos: Path, committed_bundle: Path, tmp_path: Path, contents: Contents
) -> None:
    given = [tmp_path / "missing.png", photos / "a.png", tmp_path / ("x" * 300)]
    report = denoise_files(given, tmp_path / "out", committed_bundle)
    assert sorted(contents(tmp_path / "out")) == ["a.png"]
    assert [(result.source, type(result.error)) for result in report.files] == [
        (given[0], ImageError),
        (given[1], type(None)),
        (given[2], ImageError),
    ]


@pytest.mark.parametrize("existing", ["error", "overwrite", "skip"])
def test_an_output_that_exists_is_replaced_on_request_only(
    photos: Path, committed_bundle: Path, tmp_path: Path, existing: Literal["error", "overwrite", "skip"]
) -> None:
    old = tmp_path / "out" / "a.png"
    old.parent.mkdir()
    old.write_bytes(b"old")
    report = denoise_files([photos], tmp_path / "out", committed_bundle, existing=existing)
    assert (old.read_bytes() == b"old") == (existing != "overwrite")
    assert (tmp_path / "out" / "c.png").exists()
    if existing == "error":
        (failure,) = report.failures
        assert failure.source == photos / "a.png"
        assert str(failure.error).startswith(f"{old} exists already and was not replaced")
        again = f"edgedenoise denoise {photos} -o {tmp_path / 'out'} --model {committed_bundle} --overwrite"
        assert str(failure.error).endswith(f": {again}")
    elif existing == "skip":
        assert (photos / "a.png", "its output exists already") in [(e.path, e.reason) for e in report.left_out]
        assert report.failures == ()
    else:
        assert report.counts.denoised == 3


def test_everything_that_outputs_cannot_hold_is_found_before_the_first_image_is_read(
    photos: Path, committed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    write_image(Image(pixels(0), pixels(0)[..., 0].copy()), tmp_path / "in" / "alpha.png")
    (tmp_path / "in" / "alpha.png").rename(tmp_path / "in" / "alpha.jpg")
    deep = Image(np.zeros((20, 20, 1), np.uint16))
    write_image(deep, tmp_path / "in" / "deep.png")
    (tmp_path / "in" / "deep.png").rename(tmp_path / "in" / "deep.webp")
    write_image(Image(np.zeros((1, 65501, 1), np.uint8)), tmp_path / "in" / "wide.png")
    (tmp_path / "in" / "wide.png").rename(tmp_path / "in" / "wide.jpeg")
    write_image(Image(np.zeros((1000, 1000, 1), np.uint8)), tmp_path / "in" / "large.png")
    shutil.copy(photos / "a.png", tmp_path / "in" / "ending.xyz")
    shutil.copy(photos / "a.png", tmp_path / "in" / "good.png")
    read: list[Path] = []
    monkeypatch.setattr(
        pipeline, "read_image", lambda path, **options: read.append(path) or read_image(path, **options)
    )
    given = [*sorted((tmp_path / "in").iterdir())]
    report = denoise_files(given, tmp_path / "out", committed_bundle, max_pixels=999_999)
    messages = {failure.source.name: str(failure.error) for failure in report.failures}
    assert sorted(messages) == ["alpha.jpg", "deep.webp", "ending.xyz", "large.png", "wide.jpeg"]
    assert "JPEG holds no transparency: expected no alpha channel, got one" in messages["alpha.jpg"]
    assert "expected 8 bits per sample in WEBP, got 16" in messages["deep.webp"]
    assert "got '.xyz'" in messages["ending.xyz"]
    assert "--max-pixels 1000000" in messages["large.png"]
    assert "at most 65500 pixels per side in JPEG" in messages["wide.jpeg"]
    assert [path.name for path in read] == ["good.png"]


def test_an_error_of_any_kind_costs_its_image_only(
    photos: Path, committed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, **options: Any) -> Image:
        if path.name == "b.jpg":
            raise ArithmeticError("of a library")
        return read_image(path, **options)

    monkeypatch.setattr(pipeline, "read_image", read)
    report = denoise_files([photos], tmp_path / "out", committed_bundle)
    (failure,) = report.failures
    assert "b.jpg cannot be denoised: internal error: ArithmeticError: of a library" in str(failure.error)
    assert f"denoise {photos / 'b.jpg'} -o {tmp_path / 'out' / 'b.jpg'} --model" in str(failure.error)
    assert report.counts.denoised == 2


def test_an_image_that_did_not_fit_beside_others_is_tried_again_alone(
    photos: Path, committed_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []

    def read(path: Path, **options: Any) -> Image:
        tries.append(path)
        if path.name == "c.png" and tries.count(path) == 1:
            raise MemoryError
        return read_image(path, **options)

    monkeypatch.setattr(pipeline, "read_image", read)
    report = denoise_files([photos], tmp_path / "out", committed_bundle)
    assert report.counts.denoised == 3
    assert tries.count(photos / "c.png") == 2


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="names of files are texts on this system")
def test_names_that_are_not_utf8_and_long_names_are_denoised(committed_bundle: Path, tmp_path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9.png"), "x" * 246 + ".png", "\u20ac" * 82 + ".png"]
    for name in names:
        write_image(Image(pixels(0)), tmp_path / "in" / name)
    report = denoise_files([tmp_path / "in"], tmp_path / "out", committed_bundle)
    assert report.failures == ()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)


def test_outputs_keep_the_time_of_their_inputs(photos: Path, committed_bundle: Path, tmp_path: Path) -> None:
    os.utime(photos / "a.png", ns=(1_500_000_000_123_000_000, 1_400_000_000_987_000_000))
    denoise_files([photos], tmp_path / "out", committed_bundle)
    assert (tmp_path / "out" / "a.png").stat().st_mtime_ns // 1000 == 1_400_000_000_987_000


def test_a_read_only_output_folder_ends_the_run_before_it_begins(
    photos: Path, committed_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(OutputError, match="cannot be written"):
        denoise_files([photos], tmp_path / "out" / "deeper", committed_bundle)
