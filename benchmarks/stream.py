"""Measure videos and live streams: `python benchmarks/stream.py edge-tiny`.

Four measurements, each on generated clips with camera noise:

- length: a clip of an hour (`--minutes`) from file to file: frames per second, percentiles of the delay from a decoded
  frame to its result, and the peak memory at each tenth of the clip, which must stay the same.
- live: a source of 30 frames per second with the policies `latest` and `block`: results per second, drops, and
  percentiles of the delay from capture to result.
- reuse: PSNR and time with and without the reuse of blocks, on a clip that stands still and on one that pans.
- flicker: variance over time of a scene that stands still while a lamp goes on and off, with and without smoothing.

`--page` writes the results into docs/results/video.md, and video.json beside it.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import (
    ROOT,
    check_out,
    in_new_process,
    markdown_table,
    note,
    page_parser_of,
    positive,
    run_benchmark,
    write_results,
    write_table,
)

from edgedenoise.atomic import write_bytes
from edgedenoise.denoiser import load
from edgedenoise.evaluation.worker import peak_rss_bytes
from edgedenoise.imaging.metrics import psnr
from edgedenoise.noise.synthesis import add_camera_noise, parameters_for_psnr
from edgedenoise.video.denoise import write_denoised
from edgedenoise.video.frames import LIMITED, Colour, Frame
from edgedenoise.video.options import VideoOptions
from edgedenoise.video.reader import VideoLayout, open_input
from edgedenoise.video.writer import VideoWriter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Image = NDArray[np.uint8]

PAGE = ROOT / "docs" / "results" / "video.md"
LIVE_RATE = 30
NOISE_DB = 26
WARM_UP = 16
"""Frames before the measured ones: as many as are smoothed, and more than are averaged."""


def scene(height: int, width: int, seed: int = 0) -> NDArray[np.float64]:
    """Return a clean image (H, W, 3) in [0, 1]: soft waves with discs and stripes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / 256
    image = 0.5 + 0.2 * np.sin(rng.uniform(1, 6, 3) * x[..., None] + rng.uniform(1, 6, 3) * y[..., None])
    for _ in range(height * width // 4000):
        cy, cx, radius = rng.random(3) * (height / 256, width / 256, 0.12)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < (0.02 + radius) ** 2
        image[disc] = rng.random(3) * (0.6 + 0.4 * np.sin(x[disc] * rng.integers(20, 200)))[:, None]
    return np.clip(image, 0, 1)


def clip(kind: str, count: int, side_px: int) -> Iterator[tuple[Image, Image]]:
    """Yield (noisy, clean) frames of a clip that stands still, pans, or has a lamp that goes on and off."""
    rng = np.random.default_rng(1)
    wide = scene(side_px + 2 * count, side_px + 3 * count)
    noise = parameters_for_psnr(wide[:side_px, :side_px], NOISE_DB, rng)
    for number in range(count):
        top, left = (2 * number, 3 * number) if kind == "pan" else (0, 0)
        clean = wide[top : top + side_px, left : left + side_px].copy()
        if kind == "lamp" and number // 3 % 2:
            clean[: side_px // 12, : side_px // 12] = 1
        noisy = add_camera_noise(clean, noise, rng)
        yield np.uint8(np.clip(noisy, 0, 1) * 255 + 0.5), np.uint8(clean * 255 + 0.5)


def write_clip(path: Path, count: int, rate: int, size: tuple[int, int]) -> None:
    """Write a clip of noise that moves over a scene."""
    width, height = size
    image = np.uint8(scene(height, width + 64) * 255)
    noise = np.random.default_rng(0).normal(0, 12, (height * 2, width * 2, 3))
    layout = VideoLayout(
        width, height, "yuv420p", 8, "h264", Colour(6, LIMITED, 6, 6), Fraction(rate), Fraction(1, rate),
        None, None, count,
    )  # fmt: skip
    with VideoWriter(path, path, layout, VideoOptions(crf=28)) as writer:
        for number in range(count):
            left, (dy, dx) = number // 8 % 64, divmod(number * 37 % (height * width), width)
            noisy = image[:, left : left + width] + noise[dy : dy + height, dx : dx + width]
            writer.write(Frame(np.uint8(np.clip(noisy, 0, 255)), None, number, 1))


def repeat_clip(path: Path, source: Path, times: int) -> None:
    """Write the packets of a clip several times, one after the other: an hour is made in seconds."""
    import av

    with av.open(str(path), "w") as container:
        stream = None
        for turn in range(times):
            with open_input(source) as clip:
                video = clip.streams.video[0]
                stream = stream or container.add_stream_from_template(video)
                for packet in clip.demux(video):
                    if packet.pts is not None and packet.dts is not None:
                        packet.pts += turn * (video.duration or 0)
                        packet.dts += turn * (video.duration or 0)
                        packet.stream = stream
                        container.mux(packet)


def measure_length(model: str, minutes: float, rate: int, size: tuple[int, int], threads: int | None) -> dict[str, Any]:
    """Denoise a long clip; return its frames per second, the delays, and the peak memory on the way."""
    times = max(1, round(minutes))
    part = max(20, round(minutes * 60 * rate / times))
    count = part * times
    peaks: dict[int, int] = {}

    def look(stage: str, done: int, total: int, note: str = "") -> None:  # noqa: ARG001
        if done * 10 % count < 10:
            peaks[done * 10 // count * 10] = peak_rss_bytes() or 0

    with tempfile.TemporaryDirectory() as folder, load(model, threads=threads) as denoiser:
        minute, source = Path(folder) / "minute.mp4", Path(folder) / "long.mp4"
        write_clip(minute, part, rate, size)
        repeat_clip(source, minute, times)
        report = write_denoised(denoiser, source, Path(folder) / "out.mp4", VideoOptions(), look)
    if report.frames != count:
        raise SystemExit(f"expected {count} frames, got {report.frames}")
    return {
        "minutes": count / 60 / rate,
        "rate": rate,
        "frames": report.frames,
        "size": size,
        "threads": threads,
        "seconds": report.seconds,
        "frames_per_second": report.frames / report.seconds,
        "latency_ms": asdict(report.latency_ms),
        "peak_bytes_by_percent": peaks,
        "growth_bytes": peaks[100] - peaks[10],
    }


def measure_live(model: str, policy: str, seconds: float, side_px: int) -> dict[str, Any]:
    """Denoise a source of 30 frames per second; return counts and delays."""
    frames = [noisy for noisy, _ in clip("pan", 8, side_px)]

    def source() -> Iterator[Image]:
        start = time.perf_counter()
        for number in range(round(seconds * LIVE_RATE)):
            time.sleep(max(0.0, start + number / LIVE_RATE - time.perf_counter()))
            yield frames[number % len(frames)]

    with load(model) as denoiser:
        denoiser(frames[0])  # what a backend prepares at the first image is not measured
        queue = 10**6 if policy == "block" else 1
        with denoiser.stream(source(), policy="block" if policy == "block" else "latest", max_queue=queue) as stream:
            for _ in stream:
                pass
            report = stream.report
    return {"policy": policy, "rate": LIVE_RATE, "side": side_px, **asdict(report)}


def measure_reuse(model: str, kind: str, side_px: int) -> dict[str, Any]:
    """Return PSNR and time per frame of a clip with and without reuse, on the same frames in turns."""
    frames = list(clip(kind, 3 * WARM_UP, side_px))
    row: dict[str, Any] = {"clip": kind}
    with load(model) as denoiser:
        denoiser(frames[0][0])
        for name, reuse in (("plain", False), ("reuse", True)):
            denoise = denoiser.for_video(reuse=reuse)
            start = time.perf_counter()
            results = [denoise(noisy) for noisy, _ in frames]
            row[f"{name}_s"] = time.perf_counter() - start
            measured = list(zip(results, frames, strict=True))[WARM_UP:]
            row[f"{name}_db"] = float(np.mean([psnr(result, clean) for result, (_, clean) in measured]))
    return row | {"gain_db": row["reuse_db"] - row["plain_db"], "time_ratio": row["reuse_s"] / row["plain_s"]}


def measure_flicker(model: str, side_px: int) -> dict[str, Any]:
    """Return the variance over time of the half of a scene that stands still: of its pixels, and of its brightness."""
    row: dict[str, Any] = {}
    for kind in ("still", "lamp"):
        frames = [noisy for noisy, _ in clip(kind, 3 * WARM_UP, side_px)]
        with load(model) as denoiser:
            for name, smooth in (("plain", False), ("smooth", True)):
                denoise = denoiser.for_video(smooth=smooth)
                results = np.stack([denoise(frame)[side_px // 2 :] for frame in frames][WARM_UP:]).astype(np.float64)
                row[f"{kind}_{name}_pixel_variance"] = float(results.var(axis=0).mean())
                row[f"{kind}_{name}_brightness_variance"] = float(results.mean(axis=(1, 2, 3)).var())
    return row


def text_of(results: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    length = results["length"]
    size, frames = "x".join(map(str, length["size"])), f"{length['frames']:,}"
    growth = length["growth_bytes"] / 2**20
    about = (
        f"A clip of {length['minutes']:g} minutes at {length['rate']} frames per second ({size}, {frames} frames)"
        f" from file to file: {length['frames_per_second']:.1f} frames per second.\n"
        f"From a tenth of the clip to its end the peak memory grew by {growth:.1f} MB."
    )
    peaks = {int(percent): peak / 2**20 for percent, peak in length["peak_bytes_by_percent"].items()}
    percents = [percent for percent in sorted(peaks) if percent >= 10]
    live = results["live"]
    names = {"latest": "`latest`", "block": "a queue without a bound"}
    flicker = results["flicker"]
    scenes = {"still": "stands still", "lamp": "a lamp goes on and off"}
    parts = [
        "## Memory over an hour",
        about,
        markdown_table(
            ["part of the clip", *(f"{percent} %" for percent in percents)],
            [["peak memory in MB", *(f"{peaks[percent]:.1f}" for percent in percents)]],
        ),
        markdown_table(["from decoder to result in ms", *length["latency_ms"]], [["", *_ms(length["latency_ms"])]]),
        "## Delay of a live source",
        f"{live[0]['rate']} frames per second of {live[0]['side']}x{live[0]['side']} pixels:",
        markdown_table(
            ["policy", "results per second", "dropped", "p50 ms", "p90 ms", "p99 ms"],
            [
                [
                    names[row["policy"]],
                    f"{row['frames_per_second']:.1f}",
                    f"{row['dropped']} of {row['captured']}",
                    *_ms(row["latency_ms"]),
                ]
                for row in live
            ],
        ),
        "## Reuse of blocks",
        markdown_table(
            ["clip", "without `--reuse`", "with it", "time with it over time without"],
            [
                [
                    {"still": "stands still", "pan": "pans"}[row["clip"]],
                    *(f"{row[name]:.2f} dB" for name in ("plain_db", "reuse_db")),
                    f"{row['time_ratio']:.2f}",
                ]
                for row in results["reuse"]
            ],
        ),
        "## Flicker",
        "Half of a scene that stands still, variance over time in squared 8-bit levels:",
        markdown_table(
            ["scene", "of the mean brightness, plain", "smoothed", "of the pixels, plain", "smoothed"],
            [
                [
                    scene,
                    *(f"{flicker[f'{kind}_{name}_brightness_variance']:.4f}" for name in ("plain", "smooth")),
                    *(f"{flicker[f'{kind}_{name}_pixel_variance']:.2f}" for name in ("plain", "smooth")),
                ]
                for kind, scene in scenes.items()
            ],
        ),
    ]
    return "\n\n".join(parts)


def _ms(percentiles: dict[str, float | None]) -> list[str]:
    return ["-" if value is None else f"{value:.0f}" for value in percentiles.values()]


def write_page(page: Path, results: Path) -> None:
    """Write the results into a page, and beside it."""
    write_table(page, results, text_of(json.loads(results.read_text(encoding="utf-8"))["results"]))
    write_bytes(page.with_suffix(".json"), results.read_bytes())


def main() -> None:
    parser = page_parser_of(__doc__, "stream", PAGE)
    parser.add_argument("model", help="a bundle, or the name of a shipped one")
    parser.add_argument("--minutes", type=float, default=60, help="length of the long clip; default: 60")
    parser.add_argument("--rate", type=positive, default=25, help="its frames per second; default: 25")
    parser.add_argument("--size", type=positive, nargs=2, default=(160, 120), metavar="PX", help="its width and height")
    parser.add_argument("--threads", type=positive, metavar="N", help="threads of one inference of the long clip")
    parser.add_argument("--flicker-model", help="bundle of the last measurement, such as a C-BSN; default: the model")
    parser.add_argument("--seconds", type=float, default=10, help="length of the live source; default: 10")
    parser.add_argument("--side", type=positive, default=256, metavar="PX", help="side of the frames; default: 256")
    options = parser.parse_args()
    check_out(options.out, "stream")
    note(f"a clip of {options.minutes:g} minutes ...")
    length = in_new_process(
        measure_length, options.model, options.minutes, options.rate, tuple(options.size), options.threads
    )
    live = [measure_live(options.model, policy, options.seconds, options.side) for policy in ("latest", "block")]
    reuse = [measure_reuse(options.model, kind, options.side) for kind in ("still", "pan")]
    flicker = measure_flicker(options.flicker_model or options.model, options.side)
    results = {"model": options.model, "length": length, "live": live, "reuse": reuse, "flicker": flicker}
    path = write_results(options.out, "stream", results, ["av"])
    print(text_of(json.loads(path.read_text(encoding="utf-8"))["results"]))
    if options.page is not None:
        write_page(options.page, path)


if __name__ == "__main__":
    run_benchmark(main)
