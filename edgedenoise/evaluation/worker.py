"""One variant in a process of its own: the child, `python -m edgedenoise.evaluation.worker`, and the parent's `Worker`.

Each variant gets a process, because runtimes share thread pools, allocators and peak memory within one, and because a
runtime that crashes must not end the measurement of the others. Both sides exchange lines of JSON: the first line is a
`Job`, each further line a `Request`, and each is answered by one line. What a runtime prints goes to standard error.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import msgspec
import numpy as np

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.denoiser import Denoiser, load_variant
from edgedenoise.errors import (
    DeviceNotFoundError,
    EdgeDenoiseError,
    IncompatibleError,
    InferenceError,
    NotFiniteError,
    RuntimeUnavailableError,
)
from edgedenoise.evaluation.sensors import energy_between, energy_j
from edgedenoise.imaging.files import read_image
from edgedenoise.runtimes.opening import backend_of
from edgedenoise.runtimes.shapes import accepted_side

if TYPE_CHECKING:
    from types import TracebackType

    from edgedenoise.bundles.manifest import Variant


_START = (
    "import sys; sys.path = [path for path in sys.path if path]; from edgedenoise.evaluation.worker import main; main()"
)
"""Program of a worker. The empty path is left out, because it is the working directory: Python would import a folder
called numpy or onnxruntime in it as the package."""


class OpenOptions(msgspec.Struct, frozen=True):
    """How the variants of a measurement are opened."""

    device: str = "auto"
    threads: int | None = None
    """Threads within one inference; None for the runtime's own choice."""
    trust_engine: bool = False
    """Load TensorRT engines that contain code for the host although another machine built them."""


class Job(msgspec.Struct, frozen=True):
    """The variant to open, and its options."""

    bundle: str
    variant: str
    options: OpenOptions


class Request(msgspec.Struct, frozen=True, tag="image"):
    """An image file to denoise."""

    path: str
    out: str | None = None
    """File to write the result to, as .npy of (H, W, 3) float32 in [0, 1]; None when only the time is needed."""


class NetworkRequest(msgspec.Struct, frozen=True, tag="network"):
    """An input to run the network alone on."""

    height_px: int
    width_px: int


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The variant is open."""

    load_ms: float
    """Time to open the session, including the hashes of its files, without the self-test and imports."""
    runtime_version: str
    device: str
    detail: str


class Answer(msgspec.Struct, frozen=True, tag="answer"):
    """An image was denoised."""

    seconds: float
    """Time of the whole call, without reading the file."""
    megapixels: float
    peak_rss_bytes: int | None
    """Peak resident memory of this process since its start; None where the system does not report it."""
    energy_j: float | None = None
    """Energy that the processor used meanwhile, other programs included; None where it cannot be read."""
    noise_lsb: float | None = None
    """Estimated noise of the image in 8-bit levels; None for networks that do not take the noise level."""


class NetworkAnswer(msgspec.Struct, frozen=True, tag="network answer"):
    """The network was run."""

    seconds: float
    """Time of one inference, without checks of its input and output."""
    height_px: int
    """Rows of the input that was run: those that were asked for, or the next ones that the file accepts."""
    width_px: int


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """The variant could not be opened, or the image could not be denoised."""

    kind: Literal["unavailable", "not finite", "error"]
    """`unavailable`: this machine cannot run the variant; nothing is wrong with it."""
    message: str


Reply = Opened | Answer | NetworkAnswer | Failure
SHORT_S = 0.1
"""Time below which an inference is repeated, so that caches are warm."""
_UNAVAILABLE = (RuntimeUnavailableError, IncompatibleError, DeviceNotFoundError)


DEFAULT_OPTIONS = OpenOptions()


class Worker:
    """A variant in its own process. A failure is kept in `error` and raises nothing, so that other variants go on."""

    def __init__(self, bundle: Bundle, variant: Variant, options: OpenOptions = DEFAULT_OPTIONS) -> None:
        self.variant = variant
        self.error = ""
        self.not_finite = False
        self.unavailable = False
        self.network_px: tuple[int, int] | None = None
        """(height, width) of the input that the network alone was run on."""
        self.noise_lsb: float | None = None
        """Noise of the last image, where the network takes the noise level."""
        self.energy_j: list[float] = []
        """Energy of each call, where it can be read."""
        self.opened: Opened | None = None
        self.peak_rss_bytes: int | None = None
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
        )
        named = bundle.root if bundle.is_archive else bundle.source  # an archive that was unpacked is not hashed again
        reply = self._ask(Job(str(named), variant.name, options))
        if isinstance(reply, Opened):
            self.opened = reply

    def denoise(self, path: Path, out: Path | None = None) -> float | None:
        """Run the variant on an image file; return the milliseconds of the call, or None once the worker has failed."""
        if self.error:
            return None
        reply = self._ask(Request(str(path), None if out is None else str(out)))
        if not isinstance(reply, Answer):
            return None
        self.peak_rss_bytes, self.noise_lsb = reply.peak_rss_bytes, reply.noise_lsb
        if reply.energy_j is not None:
            self.energy_j.append(reply.energy_j)
        return reply.seconds * 1000

    def run_network(self, height_px: int, width_px: int) -> float | None:
        """Run the network alone on an input in memory; return milliseconds, or None once the worker has failed."""
        if self.error:
            return None
        reply = self._ask(NetworkRequest(height_px, width_px))
        if not isinstance(reply, NetworkAnswer):
            return None
        self.network_px = (reply.height_px, reply.width_px)
        return reply.seconds * 1000

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.stdin is not None:
            with suppress(OSError):  # a worker that died leaves unread bytes behind
                self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._stderr.close()

    def _ask(self, message: Job | Request | NetworkRequest) -> Reply | None:
        if self._process.stdin is None or self._process.stdout is None:
            raise InferenceError("the worker process has no pipes")
        try:
            self._process.stdin.write(msgspec.json.encode(message) + b"\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = b""
        if not line:
            self.error = f"its process ended ({self._process.wait()}): {self._stderr_tail()}"
            return None
        reply: Reply = msgspec.json.decode(line, type=Reply)
        if isinstance(reply, Failure):
            self.error, self.not_finite = reply.message, reply.kind == "not finite"
            self.unavailable = reply.kind == "unavailable"
        return reply

    def _stderr_tail(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read()[-500:].decode(errors="replace").strip().replace("\n", "; ") or "it printed nothing"


def serve(lines: IO[bytes], replies: IO[bytes]) -> None:
    """Run one job and its requests until the lines end."""

    def reply(value: Reply) -> None:
        replies.write(msgspec.json.encode(value) + b"\n")
        replies.flush()

    job = msgspec.json.decode(lines.readline(), type=Job)
    try:
        bundle = Bundle.open(job.bundle)
        # Probing imports the runtime, which must not count as loading the model.
        backend_of(bundle.variant(job.variant)).probe()
        start = time.perf_counter()
        denoiser = load_variant(bundle, job.variant, selftest=False, **msgspec.structs.asdict(job.options))
        milliseconds = (time.perf_counter() - start) * 1000
    except EdgeDenoiseError as error:
        reply(Failure("unavailable" if isinstance(error, _UNAVAILABLE) else "error", error.one_line))
        return
    with denoiser:
        effective = denoiser.effective
        reply(Opened(milliseconds, effective.version, effective.device, effective.detail))
        for line in lines:
            request = msgspec.json.decode(line, type=Request | NetworkRequest)
            reply(_answer(denoiser, request) if isinstance(request, Request) else _network_answer(denoiser, request))


def _answer(denoiser: Denoiser, request: Request) -> Reply:
    try:
        unit = read_image(Path(request.path)).unit()
        energy, start = energy_j(), time.perf_counter()
        result = denoiser(unit)
        seconds = time.perf_counter() - start
    except EdgeDenoiseError as error:
        return _failure(error)
    used = energy_between(energy, energy_j())
    if request.out is not None:
        np.save(request.out, result, allow_pickle=False)
    return Answer(seconds, unit.shape[0] * unit.shape[1] / 1e6, peak_rss_bytes(), used, denoiser.last_noise)


def _network_answer(denoiser: Denoiser, request: NetworkRequest) -> Reply:
    """Time the network alone, on an input of the size that was asked for or of the next one that it accepts.

    A short inference is repeated at once, as tools that time the network alone do: the first one finds cold caches.
    """
    height, width = accepted_input(denoiser, request.height_px, request.width_px)
    x = np.random.default_rng(0).random((1, denoiser.session.channels, height, width), np.float32)
    try:
        seconds = denoiser.session.time_run(x)
        if seconds < SHORT_S:
            seconds = denoiser.session.time_run(x)
    except EdgeDenoiseError as error:
        return _failure(error)
    return NetworkAnswer(seconds, height, width)


def accepted_input(denoiser: Denoiser, height_px: int, width_px: int) -> tuple[int, int]:
    """Return the sides of the input that a variant is run on alone: the given ones, or the next that it accepts."""
    step = denoiser.bundle.manifest.tiling.multiple_of
    height, width = (-(-side // step) * step for side in (height_px, width_px))
    shapes = denoiser.session.shapes
    if shapes is None:
        return height, width
    side = accepted_side(shapes, min(max(height, width), shapes.sides_px[-1]))
    return side, side


def _failure(error: EdgeDenoiseError) -> Failure:
    return Failure("not finite" if isinstance(error, NotFiniteError) else "error", error.one_line)


def peak_rss_bytes() -> int | None:
    """Return the peak resident memory of this process since its start; None where the system does not report it."""
    try:
        # getrusage is not used on Linux: there its peak is inherited from the parent process.
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
    """Run the child: read from standard input, and keep the real standard output for replies only."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    serve(sys.stdin.buffer, replies)
