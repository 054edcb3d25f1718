"""Animations keep all frames, their timing, disposal and repetitions, in GIF, PNG and WebP."""

from __future__ import annotations

import io
import itertools
import json
import subprocess
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from image_files import ICC, XMP, exif_block
from PIL import Image as PILImage
from programs import needs

from edgedenoise.denoiser import load
from edgedenoise.errors import DamagedImageError, ImageError
from edgedenoise.imaging.codecs import encode_image
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.readers.decoding import decode_image
from edgedenoise.imaging.readers.options import ReadOptions

if TYPE_CHECKING:
    from pathlib import Path

FRAMES = ReadOptions(frames=True)
DELAYS_MS = (40, 100, 250)


def canvases(alpha: bool) -> list[np.ndarray]:
    """Return three frames with a square that moves, over a background that is transparent or not."""
    made = []
    for left in (2, 10, 18):
        canvas = np.zeros((24, 32, 4), np.uint8)
        if not alpha:
            canvas[...] = (10, 200, 90, 255)
        canvas[4:12, left : left + 6] = (200, 30, 60, 255)
        canvas[6, left] = (0, 0, 250, 255)
        if alpha:
            canvas[8, left + 2] = 0
        made.append(canvas)
    return made


def animation(format_: str, *, alpha: bool = False, plays: int = 0, **options: Any) -> bytes:
    """Return an animation that Pillow wrote."""
    frames = [PILImage.fromarray(canvas) for canvas in canvases(alpha)]
    stream = io.BytesIO()
    repeats: dict[str, int] = (
        {} if format_ == "GIF" and plays == 1 else {"loop": plays - 1 if format_ == "GIF" and plays else plays}
    )
    more = {"lossless": True, "exact": True} if format_ == "WEBP" else {}
    disposal = 2 if format_ == "GIF" and alpha else options.pop("disposal", 0)
    frames[0].save(
        stream, format_, save_all=True, append_images=frames[1:], duration=list(DELAYS_MS), disposal=disposal,
        **repeats, **more, **options,
    )  # fmt: skip
    return stream.getvalue()


def frames_of(image: Image) -> list[Image]:
    return [image, *image.following]


def rgba(image: Image) -> np.ndarray:
    pixels = np.repeat(image.pixels, 3, axis=2) if image.channels == 1 else image.pixels
    alpha = image.alpha if image.alpha is not None else np.full(pixels.shape[:2], 255, np.uint8)
    return np.dstack([pixels * (alpha[..., None] > 0), alpha])


@pytest.mark.parametrize("plays", [0, 1, 3])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize(("source", "target"), list(itertools.product(["GIF", "PNG", "WEBP"], repeat=2)))
def test_frames_timing_and_repetitions_are_kept(source: str, target: str, alpha: bool, plays: int) -> None:
    given = decode_image(animation(source, alpha=alpha, plays=plays), options=FRAMES)
    again = decode_image(encode_image(given, target), options=FRAMES)
    for image in (given, again):
        for frame, canvas, delay in zip(frames_of(image), canvases(alpha), DELAYS_MS, strict=True):
            assert np.array_equal(rgba(frame), canvas)
            assert frame.metadata.timing is not None
            assert frame.metadata.timing.seconds == Fraction(delay, 1000)
            assert frame.metadata.timing.plays == plays


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP"])
def test_pillow_shows_the_same_frames(format_: str, alpha: bool) -> None:
    written = encode_image(decode_image(animation(format_, alpha=alpha), options=FRAMES), format_)
    with PILImage.open(io.BytesIO(written)) as seen:
        assert seen.n_frames == 3
        for number, (canvas, delay) in enumerate(zip(canvases(alpha), DELAYS_MS, strict=True)):
            seen.seek(number)
            shown = np.array(seen.convert("RGBA"))
            assert np.array_equal(shown * (shown[..., 3:] > 0), canvas)
            assert seen.info["duration"] == delay


@pytest.mark.parametrize("format_", ["GIF", "PNG"])
def test_ffprobe_finds_the_same_timing(tmp_path: Path, format_: str) -> None:
    ffprobe = needs("ffprobe", "ffmpeg")
    path = tmp_path / f"a.{'apng' if format_ == 'PNG' else 'gif'}"
    path.write_bytes(encode_image(decode_image(animation(format_), options=FRAMES), format_))
    command = [ffprobe, "-v", "error", "-of", "json", "-show_entries", "frame=pts_time,width,height", path]
    frames = json.loads(subprocess.check_output(command, text=True))["frames"]
    assert [(frame["width"], frame["height"]) for frame in frames] == [(32, 24)] * 3
    starts = [float(frame["pts_time"]) for frame in frames]
    assert np.diff(starts) == pytest.approx([0.04, 0.1])


@pytest.mark.parametrize(("disposal", "word"), [(1, "None"), (2, "Background"), (3, "Previous")])
def test_imagemagick_finds_the_disposal_of_a_gif(tmp_path: Path, disposal: int, word: str) -> None:
    identify = needs("identify", "imagemagick")
    given = decode_image(animation("GIF", disposal=disposal), options=FRAMES)
    (tmp_path / "a.gif").write_bytes(encode_image(given, "GIF"))
    found = subprocess.check_output([identify, "-format", "%T %D %wx%h\n", tmp_path / "a.gif"], text=True)
    assert found.split("\n")[:3] == [f"4 {word} 32x24", f"10 {word} 32x24", f"25 {word} 32x24"]


def test_patches_of_a_file_are_composed_before_they_are_denoised() -> None:
    """Pillow stores only what changes between frames; a network needs the whole canvas."""
    data = animation("GIF")
    with PILImage.open(io.BytesIO(data)) as stored:
        stored.seek(1)
        assert stored.tile[0][1] != (0, 0, 32, 24)  # the file holds a part of the canvas
    frames = frames_of(decode_image(data, options=FRAMES))
    assert {frame.pixels.shape for frame in frames} == {(24, 32, 3)}


def test_metadata_of_an_animation_is_kept() -> None:
    options = {"icc_profile": ICC, "exif": exif_block(), "xmp": XMP}
    given = decode_image(animation("WEBP", **options), options=FRAMES)
    for target in ("WEBP", "PNG"):
        meta = decode_image(encode_image(given, target), options=FRAMES).metadata
        assert (meta.icc, meta.exif, meta.xmp) == (ICC, exif_block(), XMP)


def test_an_animated_webp_keeps_the_comment_of_a_gif() -> None:
    given = decode_image(animation("GIF", comment=b"a comment"), options=FRAMES)
    with PILImage.open(io.BytesIO(encode_image(given, "WEBP"))) as seen:
        assert b"a comment" in seen.info["exif"]


def test_a_gif_of_more_colours_than_a_palette_holds_is_reduced_without_dots() -> None:
    y, x = np.mgrid[0:64, 0:64]
    smooth = np.dstack([x * 4, y * 4, (x + y) * 2]).astype(np.uint8)
    again = decode_image(encode_image(Image(smooth), "GIF")).pixels.astype(int)
    assert np.abs(again - smooth).mean() < 12
    neighbours = np.abs(np.diff(again, axis=1)).sum(axis=2)
    assert (neighbours > 64).mean() < 0.01  # dithering puts unlike colours side by side


def test_up_to_256_colours_are_exact_in_a_gif() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(decode_image(encode_image(Image(colours), "GIF")).pixels, colours)
    alpha = np.full((16, 16), 255, np.uint8)
    alpha[0, 0] = 0
    again = decode_image(encode_image(Image(colours, alpha), "GIF"))
    assert np.array_equal(again.alpha, alpha)
    assert np.array_equal(again.pixels[alpha > 0], colours[alpha > 0])


def test_a_still_gif_keeps_its_comment() -> None:
    stream = io.BytesIO()
    PILImage.new("L", (4, 4), 9).save(stream, "GIF", comment=b"a comment")
    written = encode_image(decode_image(stream.getvalue()), "GIF")
    with PILImage.open(io.BytesIO(written)) as seen:
        assert seen.info["comment"] == b"a comment"


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_refused_where_one_frame_is_expected(format_: str) -> None:
    with pytest.raises(ImageError, match="expected one frame, got 3"):
        decode_image(animation(format_))


@pytest.mark.parametrize(("ending", "word"), [("jpg", "one frame in JPEG"), ("tif", "one frame in TIFF")])
def test_a_format_without_animations_is_refused(tmp_path: Path, ending: str, word: str) -> None:
    (tmp_path / "a.gif").write_bytes(animation("GIF"))
    with pytest.raises(ImageError, match=word):
        write_image(read_image(tmp_path / "a.gif", frames=True), tmp_path / f"b.{ending}")


@pytest.mark.parametrize("format_", ["GIF", "PNG", "WEBP"])
def test_an_animation_that_is_cut_is_damaged_and_never_shorter(format_: str) -> None:
    data = animation(format_)
    for kept in range(40, len(data) - 1, max(1, len(data) // 40)):
        with pytest.raises(DamagedImageError):
            frames_of(decode_image(data[:kept], options=FRAMES))


def test_a_still_image_in_front_of_an_animation_is_left_out_and_named() -> None:
    frames = [PILImage.fromarray(canvas) for canvas in canvases(alpha=False)]
    stream = io.BytesIO()
    PILImage.new("RGBA", (32, 24)).save(stream, "PNG", save_all=True, append_images=frames, default_image=True)
    image = decode_image(stream.getvalue(), options=FRAMES)
    assert [
        np.array_equal(rgba(frame), canvas) for frame, canvas in zip(frames_of(image), canvases(False), strict=True)
    ]
    assert image.metadata.notes == ("its still image for programs that show no animations is not kept",)


def test_frames_of_other_sizes_are_refused() -> None:
    image = decode_image(animation("GIF"), options=FRAMES)
    frames = [replace(frame, pixels=frame.pixels[:5], alpha=None) for frame in image.following]
    with pytest.raises(ImageError, match="expected 32 x 24 pixels, got 32 x 5"):
        encode_image(image.followed_by(frames), "GIF")


def test_one_frame_is_in_memory_at_a_time() -> None:
    alive, most = 0, 0

    class Counted(Image):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def counted(frame: Image) -> Image:
        nonlocal alive, most
        alive += 1
        most = max(most, alive)
        return Counted(frame.pixels, frame.alpha, frame.metadata, frame.format)

    image = decode_image(animation("PNG"), options=FRAMES)
    encode_image(replace(image, following=image.following.map(counted)), "PNG")
    assert most <= 2  # the one that is written, and the one that takes its place


def test_every_frame_is_denoised(committed_bundle: Path) -> None:
    image = decode_image(animation("GIF"), options=FRAMES)
    with load(committed_bundle) as denoiser:
        clean = denoiser(image)
        expected = [denoiser(Image(frame.pixels)).pixels for frame in frames_of(image)]
    assert [np.array_equal(a.pixels, b) for a, b in zip(frames_of(clean), expected, strict=True)] == [True] * 3
    assert [frame.metadata.timing for frame in frames_of(clean)] == [f.metadata.timing for f in frames_of(image)]
