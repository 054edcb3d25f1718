"""PPM, PGM and PBM files."""

from __future__ import annotations

from edgedenoise.errors import ImageError


def check_pnm_depth(data: bytes, name: str) -> None:
    """Raise for a PPM of more than 8 bits: Pillow would reduce it to 8."""
    if data[1:2] in b"14":  # bitmaps have no largest value
        return
    numbers: list[bytes] = []
    for line in data[2:4096].splitlines():
        numbers += line.split(b"#")[0].split()
    if len(numbers) < 3 or not numbers[2][:6].isdigit():
        raise ValueError("its header gives no width, height and largest value")
    if int(numbers[2]) > 255:
        raise ImageError(
            f"{name} is an unsupported kind of PPM: expected values up to 255, got {int(numbers[2])}",
            hint="Convert it to a 16-bit PNG or TIFF.",
        )
