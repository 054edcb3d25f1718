"""One image from a file or stream to a file or stream: images and arrays, each the same out as in."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as PILImage

import edgedenoise
from edgedenoise.batch.single import STANDARD_STREAM, Streams, denoise_single, is_single
from edgedenoise.errors import DamagedImageError, ImageError, OutputError, UsageError

if TYPE_CHECKING:
    from edgedenoise.batch.results import BatchReport

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


class Sink(BytesIO):
    """A stream that takes a few bytes at a time, as pipes may."""

    def write(self, data: Any, /) -> int:
        return super().write(data[:1000])


def encoded(format_: str, pixels: np.ndarray = PIXELS, **options: Any) -> bytes:
    stream = BytesIO()
    PILImage.fromarray(pixels).save(stream, format_, **options)
    return stream.getvalue()


def saved(array: np.ndarray) -> bytes:
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.fixture
def denoise(committed_bundle: Path) -> Any:
    """Denoise bytes, or a file, to bytes, or a file."""

    def run(
        data: bytes | Path, out: Path = STANDARD_STREAM, format_: str | None = None, **options: Any
    ) -> tuple[bytes, BatchReport]:
        sink = Sink()
        streams = Streams(BytesIO(data if isinstance(data, bytes) else b""), sink if out == STANDARD_STREAM else None)
        inputs = [STANDARD_STREAM if isinstance(data, bytes) else data]
        report = denoise_single(
            inputs, out, committed_bundle, streams=streams, format_=format_, precision="fp32", **options
        )
        return sink.getvalue(), report

    return run


@pytest.fixture(scope="module")
def clean(committed_bundle: Path) -> np.ndarray:
    return edgedenoise.denoise(PIXELS, committed_bundle, precision="fp32")


def test_the_format_is_the_one_of_the_input_or_the_option(denoise: Any, clean: np.ndarray) -> None:
    assert denoise(encoded("JPEG", quality=90))[0].startswith(b"\xff\xd8\xff")
    data, _ = denoise(encoded("PNG"), format_="tif")
    with PILImage.open(BytesIO(data)) as image:
        assert image.format == "TIFF"
        np.testing.assert_array_equal(np.asarray(image), clean)


def test_pages_are_denoised_one_after_another(denoise: Any) -> None:
    pages = [PILImage.fromarray(PIXELS), PILImage.fromarray(255 - PIXELS)]
    stream = BytesIO()
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    data, _ = denoise(stream.getvalue())
    with PILImage.open(BytesIO(data)) as image:
        assert image.n_frames == 2
    with pytest.raises(ImageError, match="expected one frame, got 2"):
        denoise(stream.getvalue(), format_="npy")


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2", "f2", "f4", "f8"])
def test_arrays_keep_their_shape_and_type(denoise: Any, committed_bundle: Path, dtype: str) -> None:
    given = (PIXELS[..., 0] / 255 if dtype[0] == "f" else PIXELS[..., 0]).astype(dtype)
    array = np.load(BytesIO(denoise(saved(given))[0]))
    assert (array.dtype, array.shape) == (given.dtype, given.shape)
    np.testing.assert_array_equal(array, edgedenoise.denoise(given, committed_bundle, precision="fp32"))


def test_arrays_and_images_become_each_other(denoise: Any, clean: np.ndarray, tmp_path: Path) -> None:
    np.testing.assert_array_equal(np.load(BytesIO(denoise(encoded("PNG"), format_="npy")[0])), clean)
    _, report = denoise(saved(PIXELS), tmp_path / "b.png")
    with PILImage.open(tmp_path / "b.png") as image:
        np.testing.assert_array_equal(np.asarray(image), clean)
    (result,) = report.files
    assert (result.source, result.output, result.megapixels) == (STANDARD_STREAM, tmp_path / "b.png", 0.002)
    assert result.variant == report.variant == "onnx-fp32"


def test_a_file_goes_into_a_folder_under_its_name(denoise: Any, clean: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", PIXELS)
    denoise(tmp_path / "a.npy", tmp_path / "out")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "a.npy"), clean)


def test_files_are_kept_unless_an_option_replaces_them(denoise: Any, tmp_path: Path) -> None:
    out = tmp_path / "b.png"
    out.write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        denoise(encoded("PNG"), out)
    assert out.read_bytes() == b"old"
    denoise(encoded("PNG"), out, overwrite=True)
    assert out.read_bytes() != b"old"
    with pytest.raises(UsageError, match="would overwrite its own input"):
        denoise(out, out, overwrite=True)


def test_what_the_format_cannot_hold_is_noted(denoise: Any) -> None:
    _, report = denoise(encoded("JPEG", comment=b"a comment"), format_="npy")
    assert report.files[0].notes == ("NPY cannot hold its comments",)


CASES: dict[str, tuple[bytes, dict[str, Any], type[Exception], str]] = {
    "nothing": (b"", {}, ImageError, "the standard input is empty"),
    "no image": (b"a text", {}, ImageError, "the standard input is not an image file"),
    "video": (b"\0\0\0\x18ftypmp42", {}, ImageError, "(?s)is a video file.*Videos go from file to file"),
    "half an image": (encoded("PNG")[:900], {}, DamagedImageError, "the standard input"),
    "half an array": (saved(PIXELS)[:900], {}, DamagedImageError, "a damaged NPY file: it has"),
    "objects": (saved(np.array([[{}]], dtype=object)), {}, DamagedImageError, "the type object"),
    "a wrong shape": (saved(PIXELS.transpose(2, 0, 1)), {}, ImageError, "Channels come last"),
    "no pixels": (saved(PIXELS[0, 0]), {}, ImageError, r"got \(3,\)"),
    "too many pixels": (saved(PIXELS), {"max_pixels": 9}, ImageError, "expected at most 9 pixels"),
    "an unknown format": (b"", {"format_": "xyz"}, UsageError, "got 'xyz'"),
    "16 bits as JPEG": (
        saved(PIXELS.astype(np.uint16)),
        {"format_": "jpg"},
        ImageError,
        "expected 8 bits per sample in JPEG, got 16\nAdd --format tiff.",
    ),
    "an option of another format": (encoded("PNG"), {"quality": 9}, UsageError, "--quality 9 is for no output"),
    "a format of a file": (b"", {"out": Path("a.png"), "format_": "png"}, UsageError, "expected -o -"),
    "an unknown extension": (b"", {"out": Path("a.xyz")}, UsageError, "got '.xyz'"),
    "no name": (b"", {"out": Path()}, UsageError, "edgedenoise denoise - -o denoised.png"),
}


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named(denoise: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(tmp_path)
    data, options, error, message = CASES[case]
    with pytest.raises(error, match=message):
        denoise(data, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("count", "found"), [(2, "2 inputs"), (1, "a folder")])
def test_only_one_image_goes_through_a_stream(committed_bundle: Path, tmp_path: Path, count: int, found: str) -> None:
    inputs = [STANDARD_STREAM] * 2 if count == 2 else [tmp_path]
    with pytest.raises(UsageError, match=f"expected one file or -, got {found}"):
        denoise_single(inputs, STANDARD_STREAM, committed_bundle, streams=Streams(BytesIO(), Sink()))


def test_streams_and_arrays_are_single_runs() -> None:
    photo = Path("a.jpg")
    assert is_single([STANDARD_STREAM], photo)
    assert is_single([photo], STANDARD_STREAM)
    assert is_single([Path("a.NPY")], Path("out"))
    assert not is_single([photo, Path("b.jpg")], Path("out"))
