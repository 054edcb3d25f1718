"""Write the icons of the browser app: a tile that is noisy on the left of a line and smooth on its right.

.venv/bin/python tools/web_icons.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ICONS = Path(__file__).resolve().parents[1] / "runtimes/web/app/public/icons"
GROUND, LIGHT = (0, 92, 80), (150, 226, 211)
GRID = 8
SEED = 7


def cells() -> np.ndarray:
    """Return the colours of the grid, (GRID, GRID, 3) uint8: a gradient whose left half is noisy."""
    rows, columns = np.mgrid[0:GRID, 0:GRID] / (GRID - 1)
    brightness = 0.25 + 0.6 * (rows + columns) / 2
    noise = np.random.default_rng(SEED).normal(0, 0.28, (GRID, GRID))
    noise[:, GRID // 2 :] = 0
    mixed = np.clip(brightness + noise, 0, 1)[..., None]
    return np.round(np.array(GROUND) * (1 - mixed) + np.array(LIGHT) * mixed).astype(np.uint8)


def icon(side: int, *, margin: float, radius: float) -> Image.Image:
    """Return the icon: `margin` and `radius` are parts of the side; a maskable icon has a margin and no radius."""
    scale = 4
    full = side * scale
    image = Image.new("RGBA", (full, full), (*GROUND, 255))
    edge = round(margin * full)
    tile = Image.fromarray(cells()).resize((full - 2 * edge, full - 2 * edge), Image.Resampling.NEAREST)
    image.paste(tile, (edge, edge))
    draw = ImageDraw.Draw(image)
    half = round(0.016 * full)
    draw.rectangle((full // 2 - half, edge, full // 2 + half, full - edge), fill=(255, 255, 255, 255))
    mask = Image.new("L", (full, full), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, full - 1, full - 1), round(radius * full), fill=255)
    image.putalpha(mask)
    return image.resize((side, side), Image.Resampling.LANCZOS)


def svg() -> str:
    """Return the icon as SVG."""
    size = 512 // GRID
    squares = "".join(
        f'<path fill="#{r:02x}{g:02x}{b:02x}" d="M{column * size} {row * size}h{size}v{size}h-{size}z"/>'
        for row, line in enumerate(cells())
        for column, (r, g, b) in enumerate(line)
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 512 512">'
        '<clipPath id="c"><rect width="512" height="512" rx="112"/></clipPath>'
        f'<g clip-path="url(#c)">{squares}<path fill="#fff" d="M248 0h16v512h-16z"/></g></svg>\n'
    )


def main() -> None:
    """Write all icons."""
    ICONS.mkdir(parents=True, exist_ok=True)
    for side in (192, 512):
        icon(side, margin=0, radius=0.22).save(ICONS / f"icon-{side}.png", optimize=True)
    icon(512, margin=0.14, radius=0).convert("RGB").save(ICONS / "maskable-512.png", optimize=True)
    icon(180, margin=0, radius=0).convert("RGB").save(ICONS / "apple-touch-icon.png", optimize=True)
    (ICONS / "icon.svg").write_text(svg(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
