"""Image formats: the bytes of a file to a `Image` and back, and the same for `PIL.Image`.

Each format's own header is asked before its pixels are decoded: what would lose bits, frames or channels
on the way is refused. 8-bit images and 16-bit grayscale go through Pillow, the rest of 16 bits through the
`io` extra.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from edgedenoise.errors import DamagedImageError, ImageError, RuntimeUnavailableError
from edgedenoise.extras import missing_package
from edgedenoise.imaging import metadata as containers
from edgedenoise.imaging.image import Image, Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from numpy.typing import NDArray

    from edgedenoise.imaging.image import Pixels

_ACCEPTED = "PNG and TIFF (8 or 16 bits), JPEG, WEBP, BMP and PPM (8 bits)"
# Formats that people do have and that we do not read: naming them helps more than 'unknown'.
_FOREIGN = {b"GIF8": "GIF", b"8BPS": "Photoshop", b"\xff\x0a": "JPEG XL", b"%PDF": "PDF", b"<svg": "SVG"}
_JPEG_QUALITY = 95
_quiet_lock = threading.Lock()  # warnings.catch_warnings is not safe in threads


def decode_image(data: bytes, *, name: str = "the image") -> Image:
    """Decode the bytes of an image file; `name` is what messages call it. Raises what `read_image` does."""
    format_ = _sniff(data, name)
    try:
        if format_ == "PNG":
            return _decode_png(data, name)
        if format_ == "TIFF":
            return _decode_tiff(data, name)
        if format_ == "JPEG":
            return _decode_jpeg(data, name)
        if format_ == "PPM":
            _check_ppm_depth(data, name)
        return from_pil(_load(data, format_, name), name=name)
    except ValueError as error:  # containers.py's word for a file that breaks its own rules
        raise DamagedImageError(
            f"{name} is a damaged {format_} file: {error}", hint="Copy it again from where it came."
        ) from error


def encode_image(photo: Image, format_: str) -> bytes:
    """Encode an image as the bytes of a file of one of the formats in `EXTENSIONS`.

    Raises:
        ValueError: its metadata does not fit into the format.
        RuntimeUnavailableError: a 16-bit colour PNG is asked for and the `io` extra is not installed.
    """
    meta = photo.metadata
    stream = BytesIO()
    if format_ == "TIFF":
        return containers.write_tiff(
            _stack(photo), alpha=photo.alpha is not None, exif=meta.exif, icc=meta.icc, xmp=meta.xmp
        )
    blocks = meta.native if meta.native_format == format_ else None
    if format_ == "PNG":
        if photo.bits == 16 and (photo.channels == 3 or photo.alpha is not None):
            imagecodecs = _import_io("imagecodecs", "writing 16-bit colour PNG")
            data = bytes(imagecodecs.png_encode(np.ascontiguousarray(_stack(photo))))
        else:
            _bare(photo).save(stream, "PNG")
            data = stream.getvalue()
        if blocks is None:
            blocks = containers.png_from_profiles(meta.icc, meta.exif, meta.xmp)
        return containers.png_insert(data, blocks)
    image = _bare(photo)
    if format_ == "JPEG":
        image.save(stream, "JPEG", quality=_JPEG_QUALITY, subsampling=0, dpi=meta.dpi or (0, 0))
        if blocks is None:
            blocks = containers.jpeg_from_profiles(meta.icc, meta.exif, meta.xmp)
        return containers.jpeg_insert(stream.getvalue(), blocks)
    if format_ == "WEBP":
        profiles = {"icc_profile": meta.icc, "exif": meta.exif, "xmp": meta.xmp}
        image.save(stream, "WEBP", lossless=True, exact=True, **{key: body for key, body in profiles.items() if body})
    else:
        image.save(stream, format_)
    return stream.getvalue()


# ---------------------------------------------------------------- Pillow


def from_pil(image: PILImage.Image, *, name: str = "the image") -> Image:
    """Return a `PIL.Image` as an image: L, LA, RGB, RGBA and I;16 as they are, 1 as L, P and PA as RGB(A).

    Raises:
        ImageError: another mode, or a 16-bit colour image that Pillow would read as 8-bit.
        DamagedImageError: its file is cut short or corrupt.
    """
    mode = image.mode
    for tile in getattr(image, "tile", ()):
        if ";16" in str(tile[3]) and not mode.startswith("I") and mode != "F" and image.format != "BMP":
            raise ImageError(
                f"{name} has 16 bits per sample, which Pillow reads as 8",
                hint="Use edgedenoise.imaging.files.read_image.",
            )
    if "transparency" in image.info and mode in {"1", "L", "P", "RGB"}:
        wanted = "LA" if mode in {"1", "L"} else "RGBA"
    else:
        wanted = {"1": "L", "P": "RGB", "PA": "RGBA"}.get(mode, mode)
        if mode == "P" and image.palette is not None and image.palette.mode == "RGBA":
            wanted = "RGBA"
    if not (wanted in {"L", "LA", "RGB", "RGBA"} or wanted.startswith("I;16")):
        raise ImageError(
            f"{name} has Pillow's mode {mode!r}; accepted: 1, L, LA, P, PA, RGB, RGBA and I;16",
            hint="Convert CMYK to RGB with its colour profile first." if mode == "CMYK" else None,
        )
    try:
        if image.format == "TIFF":  # the only one that looks at metadata, and warns, this late
            with _quiet():
                image.load()
        array = np.array(image if wanted == mode else image.convert(wanted))
    except (OSError, SyntaxError, ValueError, EOFError, IndexError) as error:
        raise DamagedImageError(
            f"{name} is a damaged {image.format} file: {error}", hint="Copy it again from where it came."
        ) from error
    array = array.astype(np.uint16 if array.dtype.itemsize == 2 else np.uint8)  # also fixes the byte order
    return _image(array, _metadata_of(image), image.format or "PNG")


def to_pil(photo: Image, *, like: PILImage.Image | None = None) -> PILImage.Image:
    """Return an image as a `PIL.Image` of mode L, LA, RGB, RGBA or I;16, with its metadata in `info`.

    Args:
        photo: the image.
        like: the image that the image was made of; all of its `info` is taken over, but for a transparent
            colour, which has become alpha.

    Raises:
        ImageError: 16-bit colour or 16 bits with alpha, which Pillow has no mode for.
    """
    image = _bare(photo)
    if like is not None:
        image.info = {key: value for key, value in like.info.items() if key != "transparency"}
    meta = photo.metadata
    exif = containers.EXIF_PREFIX + meta.exif if meta.exif else None
    for key, value in (("icc_profile", meta.icc), ("exif", exif), ("xmp", meta.xmp), ("dpi", meta.dpi)):
        if value is not None:
            image.info[key] = value
    return image


def _bare(photo: Image) -> PILImage.Image:
    """Return the pixels and alpha alone as a `PIL.Image`."""
    stacked = _stack(photo)
    if photo.bits == 16 and stacked.shape[2] > 1:
        raise ImageError(
            f"Pillow has no mode for 16-bit images with {stacked.shape[2]} channels",
            hint="Keep the Image or its arrays, or convert to 8 bits.",
        )
    return PILImage.fromarray(stacked[..., 0] if stacked.shape[2] == 1 else stacked)


def _load(data: bytes, format_: str, name: str) -> PILImage.Image:
    """Open `data` with Pillow, silently; the pixels are decoded later."""
    try:
        with _quiet():
            # An MPO is a JPEG with more images behind it, as phones write: the first is the image.
            image = PILImage.open(BytesIO(data), formats=[format_, "MPO"] if format_ == "JPEG" else [format_])
            frames = getattr(image, "n_frames", 1)
    except PILImage.DecompressionBombError as error:
        raise ImageError(
            f"{name} is larger than Pillow accepts: {error}",
            hint="If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS.",
        ) from error
    except UnidentifiedImageError as error:
        if format_ == "TIFF":  # whose directory has been read by now, and is sound
            raise ImageError(f"{name} is a kind of TIFF that is not supported. Accepted: {_ACCEPTED}") from error
        raise ValueError("its header cannot be read") from error
    except (OSError, SyntaxError, EOFError, IndexError, KeyError, TypeError) as error:
        raise ValueError(f"it cannot be decoded ({error})") from error
    if frames > 1 and image.format != "MPO":
        raise ImageError(f"{name} holds {frames} frames; accepted: images with one")
    image.format = format_
    return image


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Pillow's warnings about odd metadata, which we copy as it is, and about large images."""
    with _quiet_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _metadata_of(image: PILImage.Image) -> Metadata:
    """Return what Pillow found; files whose blocks are copied raw add these."""
    info = image.info
    exif = info.get("exif")
    if isinstance(exif, bytes):
        exif = exif.removeprefix(containers.EXIF_PREFIX) or None
    xmp = info.get("xmp")
    dpi = info.get("dpi")
    return Metadata(
        icc=info.get("icc_profile") or None,
        exif=exif,
        xmp=xmp.encode() if isinstance(xmp, str) else xmp or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi else None,
    )


# ---------------------------------------------------------------- one format each


def _sniff(data: bytes, name: str) -> str:
    """Tell the format by the first bytes."""
    if not data:
        raise ImageError(f"{name} is empty")
    head = data[:16]
    for signature, format_ in (
        (b"\x89PNG", "PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        (b"II*\x00", "TIFF"),
        (b"MM\x00*", "TIFF"),
        (b"II+\x00", "TIFF"),
        (b"MM\x00+", "TIFF"),
        (b"BM", "BMP"),
    ):
        if head.startswith(signature):
            return format_
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    foreign = next((kind for mark, kind in _FOREIGN.items() if head.startswith(mark)), None)
    if head[4:8] == b"ftyp":
        foreign = "HEIC, AVIF or video"
    what = f"a {foreign} file, which is not supported" if foreign else "not an image file"
    raise ImageError(f"{name} is {what}; it begins with {head[:8]!r}. Accepted: {_ACCEPTED}")


def _decode_png(data: bytes, name: str) -> Image:
    chunks = containers.png_chunks(data)
    frames = next((int.from_bytes(body[:4], "big") for kind, body in chunks if kind == b"acTL"), 1)
    if frames > 1:
        raise ImageError(f"{name} holds {frames} frames; accepted: images with one")
    depth, colour_type = chunks[0][1][8], chunks[0][1][9]
    meta = Metadata(*containers.png_profiles(chunks), containers.png_descriptive(chunks), "PNG")
    key = None
    if depth == 16:  # the colour that stands for 'transparent' is ours to apply: libraries do it in 8 bits
        key = next((body for kind, body in chunks if kind == b"tRNS"), None)
        chunks = [chunk for chunk in chunks if chunk[0] != b"tRNS"]
    bare = containers.png_bare(chunks)
    image = _load(bare, "PNG", name)  # also refuses decompression bombs
    if depth < 16 or colour_type == 0:
        photo = from_pil(image, name=name)
    else:
        imagecodecs = _import_io("imagecodecs", f"reading the 16-bit colour PNG {name}")
        try:
            photo = _image(np.asarray(imagecodecs.png_decode(bare), np.uint16), meta, "PNG")
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    alpha = photo.alpha
    if key is not None and alpha is None:
        alpha = ((photo.pixels != np.frombuffer(key, ">u2")).any(axis=2) * 65535).astype(np.uint16)
    return Image(photo.pixels, alpha, meta, "PNG")


def _decode_jpeg(data: bytes, name: str) -> Image:
    segments = containers.jpeg_segments(data)
    bits = containers.jpeg_bits(segments)
    if bits != 8:
        raise ImageError(f"{name} is a JPEG with {bits} bits per sample; accepted: 8")
    photo = from_pil(_load(data, "JPEG", name), name=name)
    meta = replace(photo.metadata, native=containers.jpeg_descriptive(segments), native_format="JPEG")
    return replace(photo, metadata=meta)


def _decode_tiff(data: bytes, name: str) -> Image:
    ifds = containers.read_ifds(data)
    ifd = ifds[0]
    full_pages = sum(1 for page in ifds if page.numbers(254, (0,))[0] & 5 == 0)  # not a thumbnail nor a mask
    photometric = ifd.numbers(262, (1,))[0]
    if not ifd.numbers(256) or not ifd.numbers(257):
        raise ValueError("it does not say how large it is")
    if 50706 in ifd.values or photometric in {32803, 34892}:
        raise ImageError(
            f"{name} is a camera's raw file, which is not supported. Accepted: {_ACCEPTED}",
            hint="Develop it to a 16-bit TIFF without noise reduction, and without changing its size.",
        )
    if full_pages > 1:
        raise ImageError(f"{name} holds {full_pages} pages; accepted: images with one")
    bits = set(ifd.numbers(258, (1,)))
    samples, extra = ifd.numbers(277, (1,))[0], ifd.numbers(338)
    if not (bits <= {1, 2, 4, 8} or bits == {16}) or set(ifd.numbers(339, (1,))) != {1}:
        kind = {2: "signed ", 3: "floating-point "}.get(ifd.numbers(339, (1,))[0], "")
        depth = "/".join(str(bit) for bit in sorted(bits))
        raise ImageError(f"{name} is a TIFF with {depth} {kind}bits per sample; accepted: 8 or 16, unsigned")
    if len(extra) > 1 or any(kind not in {1, 2} for kind in extra):
        raise ImageError(f"{name} has {len(extra)} extra channels that are not alpha; accepted: one alpha channel")
    ifd.check_pixels_are_within(len(data))
    meta = Metadata(
        icc=ifd.raw(containers.TIFF_ICC), exif=containers.exif_of_tiff(ifd), xmp=ifd.raw(containers.TIFF_XMP)
    )
    if bits != {16} or (samples == 1 and photometric == 1):
        photo = from_pil(_load(containers.bare_tiff(data, ifd), "TIFF", name), name=name)
    elif photometric in {0, 1, 2} and samples - len(extra) == (3 if photometric == 2 else 1):
        _refuse_bomb(ifd.numbers(256)[0] * ifd.numbers(257)[0], name)
        bare = containers.bare_tiff(data, ifd)
        photo = _deep_tiff(bare, name, inverted=photometric == 0, premultiplied=extra == (1,))
    else:
        raise ImageError(
            f"{name} is a 16-bit TIFF of photometric interpretation {photometric} with {samples} channels; "
            "accepted: grayscale and RGB, with or without alpha"
        )
    return Image(photo.pixels, photo.alpha, meta, "TIFF")


def _deep_tiff(data: bytes, name: str, *, inverted: bool, premultiplied: bool) -> Image:
    """Decode a 16-bit TIFF that Pillow would cut to 8 bits or show inverted."""
    tifffile = _import_io("tifffile", f"reading the 16-bit TIFF {name}")
    _import_io("imagecodecs", f"reading the 16-bit TIFF {name}")  # tifffile's decompressors
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            page = file.pages[0]
            planar = int(page.planarconfig) == 2
            array = np.asarray(page.asarray(), np.uint16)
    except (RuntimeError, OSError, IndexError, KeyError, TypeError, ArithmeticError) as error:
        raise ValueError(str(error)) from error
    if planar and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if array.ndim not in {2, 3}:
        raise ValueError(f"it decodes to an array of {array.ndim} dimensions")
    photo = _image(array, Metadata(), "TIFF")
    pixels = photo.pixels
    if premultiplied and photo.alpha is not None:
        opacity = np.maximum(photo.alpha, 1)[..., None].astype(np.float64) / 65535
        pixels = np.floor(np.minimum(pixels / opacity, 65535) + 0.5).astype(np.uint16)
    return Image(65535 - pixels if inverted else pixels, photo.alpha, Metadata(), "TIFF")


def _refuse_bomb(pixels: int, name: str) -> None:
    """Refuse what Pillow would refuse, where it is not Pillow that decodes."""
    limit = PILImage.MAX_IMAGE_PIXELS
    if limit is not None and pixels > 2 * limit:
        raise ImageError(
            f"{name} is larger than accepted: {pixels} pixels, and the limit is {2 * limit}",
            hint="If you trust the file, raise PIL.Image.MAX_IMAGE_PIXELS.",
        )


def _check_ppm_depth(data: bytes, name: str) -> None:
    """Refuse a PPM of more than 8 bits: Pillow would cut it to 8."""
    if data[1:2] in b"14":  # bitmaps have no largest value
        return
    numbers: list[bytes] = []
    for line in data[2:4096].splitlines():
        numbers += line.split(b"#")[0].split()
    if len(numbers) < 3 or not numbers[2][:6].isdigit():
        raise ValueError("its header gives no width, height and largest value")
    if int(numbers[2]) > 255:
        raise ImageError(
            f"{name} is a PPM with values up to {int(numbers[2])}; accepted: up to 255",
            hint="Convert it to a 16-bit PNG or TIFF.",
        )


# ---------------------------------------------------------------- helpers


def _image(array: NDArray[Any], metadata: Metadata, format_: str) -> Image:
    """Split (H, W) or (H, W, 1..4) into pixels and alpha."""
    if array.ndim == 2:
        array = array[..., None]
    if array.shape[2] in {2, 4}:
        pixels, alpha = array[..., :-1], array[..., -1]
        return Image(np.ascontiguousarray(pixels), np.ascontiguousarray(alpha), metadata, format_)
    return Image(array, None, metadata, format_)


def _stack(photo: Image) -> Pixels:
    """Return (H, W, C) with alpha as the last channel when there is one."""
    if photo.alpha is None:
        return photo.pixels
    stacked: Pixels = np.concatenate([photo.pixels, photo.alpha[..., None]], axis=2)
    return stacked


def _import_io(module: str, purpose: str) -> ModuleType:
    """Import a package of the `io` extra, or say what to install."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = missing_package(error)
        if missing is None:
            raise
        raise RuntimeUnavailableError(f"{purpose}: {missing.message}", hint=missing.hint) from error
