"""JPEG and WebP files whose scans are cut or overwritten are damaged, and not gray."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image as PILImage

from edgedenoise.errors import DamagedImageError
from edgedenoise.imaging.readers import jpeg_scans
from edgedenoise.imaging.readers.decoding import decode_image

KINDS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "optimized": {"optimize": True},
    "best": {"quality": 100, "subsampling": 0},
    "restarts": {"restart_marker_blocks": 4},
    "progressive": {"progressive": True},
    "progressive with restarts": {"progressive": True, "restart_marker_rows": 2},
}


def content(name: str) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:120, 0:170]
    smooth = np.dstack([x, y, x + y]).astype(np.uint8)
    return {
        "noise": rng.integers(0, 256, (120, 170, 3), dtype=np.uint8),
        "photo": (smooth // 2 + rng.integers(0, 40, smooth.shape)).astype(np.uint8),
        "white": np.full((120, 170, 3), 255, np.uint8),
        "gray": rng.integers(0, 256, (120, 170), dtype=np.uint8),
        "pixel": np.zeros((1, 1, 3), np.uint8),
        "white below": np.concatenate([smooth[:60], np.full((60, 170, 3), 255, np.uint8)]),
    }[name]


def jpeg(name: str, kind: str) -> bytes:
    stream = io.BytesIO()
    PILImage.fromarray(content(name)).save(stream, "JPEG", **KINDS[kind])
    return stream.getvalue()


@pytest.mark.parametrize("limit", [32_000_000, 0], ids=["at full size", "at an eighth"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["noise", "photo", "white", "gray", "pixel", "white below"])
def test_a_whole_file_is_accepted(name: str, kind: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jpeg_scans, "_WHOLE_PIXELS", limit)
    monkeypatch.setattr(jpeg_scans, "_WHOLE_PROGRESSIVE_PIXELS", limit)
    data = jpeg(name, kind)
    decode_image(data)
    decode_image(data[:-2] + bytes(100) + data[-2:])  # padding before the end mark
    decode_image(data + b"what follows")


@pytest.mark.parametrize("limit", [32_000_000, 0], ids=["at full size", "at an eighth"])
@pytest.mark.parametrize("name", ["noise", "photo", "gray", "white below"])
@pytest.mark.parametrize("kind", ["baseline", "optimized", "best", "restarts"])
def test_a_cut_scan_is_damaged_with_and_without_an_end_mark(
    name: str, kind: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_scans, "_WHOLE_PIXELS", limit)
    monkeypatch.setattr(jpeg_scans, "_WHOLE_PROGRESSIVE_PIXELS", limit)
    data = jpeg(name, kind)
    start = data.index(b"\xff\xda") + 14
    accepted = []
    for share in np.linspace(0.05, 0.9, 10):
        cut = data[: start + int((len(data) - start) * share)].rstrip(b"\xff")
        for ending in (b"", b"\xff\xd9", b"\xff\xd9" + data[-300:]):
            try:
                decode_image(cut + ending)
            except DamagedImageError:
                continue
            accepted.append((share, ending))
    assert accepted == []


@pytest.mark.parametrize("name", ["noise", "photo"])
def test_a_progressive_file_that_misses_a_part_of_a_scan_is_damaged(name: str) -> None:
    data = jpeg(name, "progressive")
    accepted = 0
    for share in np.linspace(0.05, 0.9, 20):
        cut = data[: int(len(data) * share)].rstrip(b"\xff")
        try:
            decode_image(cut + b"\xff\xd9")
        except DamagedImageError:
            continue
        accepted += 1
    assert accepted <= 1  # a cut between two scans leaves a whole file of less detail


@pytest.mark.parametrize("name", ["noise", "photo"])
def test_an_overwritten_part_is_damaged(name: str) -> None:
    data = jpeg(name, "baseline")
    start = data.index(b"\xff\xda") + 14
    accepted = 0
    for share in np.linspace(0.1, 0.8, 10):
        at = start + int((len(data) - start) * share)
        try:
            decode_image(data[:at].rstrip(b"\xff") + bytes(512) + data[at + 512 :])
        except DamagedImageError:
            continue
        accepted += 1
    assert accepted <= 1  # a decoder that happens to meet the last block at the right place


@pytest.mark.parametrize("lossless", [False, True])
def test_a_cut_webp_is_damaged_with_and_without_a_matching_header(lossless: bool) -> None:
    stream = io.BytesIO()
    PILImage.fromarray(content("photo")).save(stream, "WEBP", lossless=lossless)
    data = stream.getvalue()
    for share in np.linspace(0.1, 0.95, 20):
        kept = int(len(data) * share)
        cut = data[: kept - kept % 2]
        with pytest.raises(DamagedImageError):
            decode_image(cut)
        matching = b"RIFF" + (len(cut) - 8).to_bytes(4, "little") + cut[8:16]
        matching += (len(cut) - 20).to_bytes(4, "little") + cut[20:]
        with pytest.raises(DamagedImageError):
            decode_image(matching)
