"""One session and one Denoiser from several threads: every answer is the right one, on every backend."""

from __future__ import annotations

import copy
import os
import pickle
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest
from fake_nvidia import ORIN, Cuda, opened, variant

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.denoiser import load
from edgedenoise.errors import InferenceError, UsageError
from edgedenoise.imaging.normalize import UNIT
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.runtimes.base import EffectiveDevice, Session
from edgedenoise.runtimes.checked import CheckedSession
from edgedenoise.runtimes.opened import OpenedVariants
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.tensorrt.backend import TensorRT
from edgedenoise.runtimes.tensorrt.nvidia import Gpu

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from edgedenoise.bundles.manifest import Variant

SIZES = ((70, 90, 3), (33, 120, 3))
X = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
TWO = (Gpu(0, "RTX 4090", "8.9", "12.6"), Gpu(1, ORIN.name, ORIN.compute_capability, "12.6"))


@pytest.fixture(scope="module")
def both(committed_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with variants for every backend that runs on this machine's CPU."""
    pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")
    root = shutil.copytree(committed_bundle, tmp_path_factory.mktemp("threads") / "b.edge")
    edgedenoise.compile(root, target="openvino", precision="fp32")
    return root


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_one_denoiser_serves_several_threads(both: Path, runtime: str) -> None:
    random = np.random.default_rng(0)
    images = [random.integers(0, 256, size, dtype=np.uint8) for size in SIZES] * 2
    with load(both, runtime=runtime, precision="fp32", threads=1, tile=64) as denoiser:
        expected = [denoiser(image) for image in images]

        def repeated(index: int) -> list[np.ndarray]:
            return [denoiser(images[index]) for _ in range(3)]

        with ThreadPoolExecutor(len(images)) as pool:
            found = list(pool.map(repeated, range(len(images))))
    for answers, right in zip(found, expected, strict=True):
        for answer in answers:
            np.testing.assert_array_equal(answer, right)


@pytest.mark.usefixtures("machine", "cuda")
def test_one_engine_serves_several_threads(engine: Callable[..., Path]) -> None:
    images = [np.random.default_rng(i).random((3, 150, 90), np.float32) for i in range(4)]
    tiling = Tiling(halo_px=4)
    with opened(engine()) as session:

        def denoised(image: np.ndarray) -> np.ndarray:
            return run_image(session, image, UNIT, tiling, tile=20)

        with ThreadPoolExecutor(len(images)) as pool:
            found = list(pool.map(denoised, images * 5))
    for answer, image in zip(found, images * 5, strict=True):
        np.testing.assert_array_equal(answer, image + 1)


def test_every_thread_uses_the_gpu_that_the_engine_is_on(
    cuda: Cuda, machine: Callable[..., None], engine: Callable[..., Path]
) -> None:
    machine(TWO)
    with opened(engine()) as session:
        assert session.effective.device == "cuda:1"
        with ThreadPoolExecutor(1) as pool:  # a thread of its own begins on GPU 0
            np.testing.assert_array_equal(pool.submit(session.run, X).result(), X + 1)
    assert cuda.on_wrong_device == 0
    assert cuda.live == 0


class Slow(Session):
    """A session that is not thread-safe: it notices when it is used twice at once."""

    effective = EffectiveDevice("slow", "1", "cpu")

    def __init__(self) -> None:
        self.busy = threading.Lock()

    def run(self, x: np.ndarray) -> np.ndarray:
        assert self.busy.acquire(blocking=False), "two threads at once"
        threading.Event().wait(0.001)
        self.busy.release()
        return x


def test_what_is_not_thread_safe_is_run_by_one_thread_at_a_time() -> None:
    session = CheckedSession(Slow())
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(session.run, [X] * 40))
    assert session.timing.calls == 40


def test_a_second_stream_in_one_thread_is_refused_until_the_first_is_closed() -> None:
    session = CheckedSession(Slow())
    first = session.stream([X, X])
    next(first)
    with pytest.raises(InferenceError, match="a stream of this session is not finished"):
        session.run(X)
    first.close()
    np.testing.assert_array_equal(session.run(X), X)


@pytest.mark.usefixtures("machine", "cuda")
def test_streams_of_an_engine_cannot_be_interleaved(engine: Callable[..., Path]) -> None:
    """They share the memory of the tiles on their way: interleaved, each would get the other's tiles."""
    with opened(engine()) as session:
        first, second = session.stream([X, X, X]), session.stream([X + 2, X + 3])
        np.testing.assert_array_equal(next(first), X + 1)
        with pytest.raises(InferenceError, match="not finished"):
            next(second)
        assert len(list(first)) == 2


def test_an_error_in_the_middle_of_an_image_leaves_the_session_usable() -> None:
    session = CheckedSession(Slow())
    image = np.random.default_rng(0).random((3, 60, 60), np.float32)

    def fail(done: int, total: int) -> None:
        raise RuntimeError("the caller's own error")

    try:
        run_image(session, image, UNIT, Tiling(halo_px=2), tile=20, on_tile=fail)
    except RuntimeError as error:
        kept = error  # its traceback holds every frame, as an interactive session does
    np.testing.assert_array_equal(run_image(session, image, UNIT, Tiling(halo_px=2), tile=20), image)
    assert str(kept) == "the caller's own error"


def test_closing_waits_for_the_streams_of_other_threads() -> None:
    session = CheckedSession(Slow())
    started, answers = threading.Event(), []

    def consume() -> None:
        for answer in session.stream([X] * 20):
            started.set()
            answers.append(answer)

    thread = threading.Thread(target=consume)
    thread.start()
    started.wait()
    session.close()
    thread.join()
    assert len(answers) == 20
    with pytest.raises(InferenceError, match="closed"):
        session.run(X)


def test_no_image_runs_in_float_after_closing() -> None:
    deep = np.zeros((16, 16, 3), np.uint16)
    for used_before in (False, True):
        denoiser = load("edge-tiny", runtime="onnxruntime")
        assert denoiser.variant.precision == "int8"
        if used_before:
            denoiser(deep)
        denoiser.close()
        with pytest.raises(InferenceError, match="closed"):
            denoiser(deep)


def test_closing_waits_for_the_float_variant_that_is_being_opened(committed_bundle: Path) -> None:
    """The session that another thread opens is closed as well."""
    chosen = Bundle.open(committed_bundle).variant("onnx-int8-u8s7")
    opening, float_session = threading.Event(), CheckedSession(Slow())

    def open_float() -> tuple[Variant, CheckedSession]:
        opening.set()
        time.sleep(0.2)
        return chosen, float_session

    variants = OpenedVariants(chosen, CheckedSession(Slow()), open_float)
    thread = threading.Thread(target=lambda: variants.for_image(16, None))
    thread.start()
    opening.wait()
    variants.close()
    thread.join()
    with pytest.raises(InferenceError, match="closed"):
        float_session.run(X)


# ---------------------------------------------------------------- processes


def test_neither_a_session_nor_a_denoiser_can_be_pickled_or_copied(committed_bundle: Path) -> None:
    with load(committed_bundle, precision="fp32") as denoiser:
        for one in (denoiser, denoiser.session):
            for use in (pickle.dumps, copy.copy, copy.deepcopy):
                with pytest.raises(UsageError, match="cannot be pickled or copied") as caught:
                    use(one)
                assert "Open one in each process" in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning")
def test_a_fork_is_refused_and_leaves_the_session_of_its_parent_open() -> None:
    session = CheckedSession(Slow())
    busy = session.stream([X, X])
    next(busy)  # in the fork, this stream never ends
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        try:
            session.run(X)
            os.write(writing, b"it ran")
        except InferenceError as error:
            session.close()
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read().decode()
    os.waitpid(child, 0)
    assert "was opened by the process" in told
    assert "Open one in each process" in told
    assert len(list(busy)) == 1
    np.testing.assert_array_equal(session.run(X), X)


# ---------------------------------------------------------------- two GPUs


@pytest.mark.usefixtures("cuda")
def test_auto_takes_the_gpu_that_the_engine_was_built_for(
    machine: Callable[..., None], engine: Callable[..., Path]
) -> None:
    machine(TWO)
    path, backend = engine(), TensorRT()
    assert backend.unsupported_reason(variant(), model=ModelFiles.read(path)) is None
    assert "built for Orin" in str(backend.unsupported_reason(variant(), device="cuda:0", model=ModelFiles.read(path)))
    assert backend.unsupported_reason(variant(), device="CUDA:1", model=ModelFiles.read(path)) is None
    with opened(path) as session:
        assert session.effective.device == "cuda:1"
