"""One variant in a process of its own, driven by lines of JSON: `python -m edgedenoise.evaluation.worker`.

A process per variant, because runtimes share thread pools, allocators and peak memory within one; and because a
runtime that crashes must cost its own row only. The first line is a `Job`, each further line a `Request`; each is
answered by one line. Whatever a runtime prints goes to the standard error.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import IO, Literal

import msgspec
import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.denoiser import Denoiser, load_variant
from edgedenoise.errors import EdgeDenoiseError, NotFiniteError
from edgedenoise.exporting.targets import runtime_of, target_named
from edgedenoise.imaging.files import read_image


class Job(msgspec.Struct, frozen=True):
    """Which variant to open, and how."""

    bundle: str
    variant: str
    device: str = "auto"
    threads: int | None = None


class Request(msgspec.Struct, frozen=True):
    """Denoise an image file."""

    path: str
    out: str | None = None
    """Where to write the answer as .npy, (H, W, 3) float32 in [0, 1]; None when only the time is wanted."""


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The variant is open."""

    load_ms: float
    """From the call to the opened session, files hashed, self-test and imports left out."""
    runtime_version: str
    device: str
    detail: str


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """An image was denoised."""

    seconds: float
    """Normalising, tiles, inference and undoing; reading the file left out."""
    megapixels: float
    peak_rss_bytes: int | None
    """Of this process since its start; None where the system does not tell."""


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """It did not work."""

    kind: Literal["not finite", "error"]
    message: str


Reply = Opened | Answer | Failure


def serve(lines: IO[bytes], replies: IO[bytes]) -> None:
    """Answer one job and its requests until the lines end."""

    def reply(value: Reply) -> None:
        replies.write(msgspec.json.encode(value) + b"\n")
        replies.flush()

    job = msgspec.json.decode(lines.readline(), type=Job)
    try:
        bundle = Bundle.open(job.bundle)
        # Probing imports the runtime, which is not what loading a model costs.
        runtime_of(target_named(bundle.variant(job.variant).runtime)).probe()
        start = time.perf_counter()
        denoiser = load_variant(bundle, job.variant, device=job.device, threads=job.threads, prove=False)
        milliseconds = (time.perf_counter() - start) * 1000
    except EdgeDenoiseError as error:
        reply(Failure("error", str(error)))
        return
    with denoiser:
        effective = denoiser.effective
        reply(Opened(milliseconds, effective.version, effective.device, effective.detail))
        for line in lines:
            reply(_answer(denoiser, msgspec.json.decode(line, type=Request)))


def _answer(denoiser: Denoiser, request: Request) -> Reply:
    try:
        unit = read_image(Path(request.path)).unit()
        start = time.perf_counter()
        result = denoiser(unit)
        seconds = time.perf_counter() - start
    except EdgeDenoiseError as error:
        return Failure("not finite" if isinstance(error, NotFiniteError) else "error", str(error))
    if request.out is not None:
        np.save(request.out, result, allow_pickle=False)
    return Answer(seconds, unit.shape[0] * unit.shape[1] / 1e6, peak_rss_bytes())


def peak_rss_bytes() -> int | None:
    """Return the peak resident memory of this process since its start; None where the system does not tell."""
    try:
        # Not getrusage: on Linux its peak is inherited from the process that started this one.
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return _peak_on_windows()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _peak_on_windows() -> int | None:
    try:
        import psutil  # the extra `bench`
    except ImportError:
        return None
    return int(psutil.Process().memory_info().peak_wset)


def main() -> None:
    """Serve on the standard streams, keeping the real standard output for replies alone."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies)


if __name__ == "__main__":
    main()
