"""Write the image at the top of the README: `python tools/before_after.py [IMAGE] [--out FILE]`.

A clean image gets synthetic camera noise, and the shipped network `edge` denoises it. Without IMAGE it is the sample
`coffee` of scikit-image (CC0, photographed by Rachel Michetti), which the network has not been trained on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import edgedenoise
from edgedenoise.imaging.image import from_unit
from edgedenoise.imaging.metrics import psnr
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr

OUT = Path(__file__).resolve().parents[1] / "docs" / "assets" / "before-after.jpg"
NOISY_DB = 22.0
SEED = 7
WIDTH_PX = 440
"""Width of each half."""
GAP_PX = 6
MAX_BYTES = 300_000


def clean_image(path: Path | None) -> np.ndarray:
    """Read an 8-bit RGB image and return its middle, WIDTH_PX wide."""
    if path is None:
        import skimage.data

        image = skimage.data.coffee()
    else:
        image = np.asarray(Image.open(path).convert("RGB"))
    left = max(0, (image.shape[1] - WIDTH_PX) // 2 - 60)
    return np.ascontiguousarray(image[:, left : left + WIDTH_PX])


def labelled(pixels: np.ndarray, label: str) -> Image.Image:
    """Return the image with a label in its lower left corner."""
    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=18)
    box = draw.textbbox((14, image.height - 36), label, font=font)
    draw.rectangle((box[0] - 7, box[1] - 5, box[2] + 7, box[3] + 6), fill=(0, 0, 0))
    draw.text((14, image.height - 36), label, font=font, fill=(255, 255, 255))
    return image


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the before/after image of the README.")
    parser.add_argument("image", type=Path, nargs="?", help="a clean image; default: scikit-image's `coffee`")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()

    clean = clean_image(options.image)
    rng = np.random.default_rng(SEED)
    noisy = from_unit(add_camera_noise(clean, parameters_for_psnr(clean, NOISY_DB, rng), rng), np.uint8)
    denoised = edgedenoise.denoise(noisy, "edge")
    halves = [
        labelled(noisy, f"noisy, {psnr(noisy, clean):.1f} dB"),
        labelled(denoised, f"denoised, {psnr(denoised, clean):.1f} dB"),
    ]
    both = Image.new("RGB", (2 * clean.shape[1] + GAP_PX, clean.shape[0]), (255, 255, 255))
    both.paste(halves[0], (0, 0))
    both.paste(halves[1], (clean.shape[1] + GAP_PX, 0))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    both.save(options.out, quality=85, optimize=True)
    size = options.out.stat().st_size
    print(f"{options.out}: {both.width}x{both.height}, {size / 1000:.0f} kB")
    if size > MAX_BYTES:
        raise SystemExit(f"the image is larger than {MAX_BYTES / 1000:.0f} kB: lower the quality")


if __name__ == "__main__":
    main()
