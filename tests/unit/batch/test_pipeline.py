"""Reading, denoising and writing overlap, within bounds and in order; an interruption leaves nothing half-written."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from edgedenoise.batch import memory, pipeline
from edgedenoise.batch.pipeline import run_jobs
from edgedenoise.batch.plan import FileJob
from edgedenoise.errors import ImageError
from edgedenoise.imaging.image import Image
from edgedenoise.imaging.layout import Layout
from edgedenoise.imaging.readers.options import ReadOptions
from edgedenoise.imaging.saving import AS_READ
from edgedenoise.progress import silent

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgedenoise.batch.results import FileResult
    from edgedenoise.denoiser import Denoiser

TIMEOUT_S = 20


@dataclass
class Disk:
    """Stands for the files of a run: what was read and written, and how many images were in memory."""

    read: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    in_memory: int = 0
    most_in_memory: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    before_reading: Callable[[str], None] = lambda name: None
    before_writing: Callable[[str], None] = lambda name: None

    def read_image(self, path: Path, **_: Any) -> Image:
        self.before_reading(path.name)
        with self.lock:
            self.in_memory += 1
            self.most_in_memory = max(self.most_in_memory, self.in_memory)
            self.read.append(path.name)
        return Image(np.full((4, 4, 3), int(path.stem), np.uint8))

    def write_image(self, image: Image, path: Path, _: object) -> None:
        self.before_writing(path.name)
        with self.lock:
            assert int(image.pixels[0, 0, 0]) == int(path.stem)
            self.in_memory -= 1
            self.written.append(path.name)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    files = Disk()
    monkeypatch.setattr(pipeline, "read_image", files.read_image)
    monkeypatch.setattr(pipeline, "write_image", files.write_image)
    monkeypatch.setattr(pipeline, "check_writable", lambda path: None)
    return files


def jobs(count: int, side_px: int = 4) -> list[FileJob]:
    layout = Layout(side_px, side_px, 3, 8, False)
    return [FileJob(Path(f"{number}.png"), Path(f"out/{number}.png"), "again", layout) for number in range(count)]


@dataclass
class Network:
    """Stands for a denoiser."""

    run: Callable[[Image], Image]
    last_variant: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(name="onnx-fp32"))
    last_float_reason: str | None = None
    last_noise: float | None = None
    max_memory: int | None = None

    def __call__(self, image: Image, *, on_tile: Callable[[int, int], None]) -> Image:
        return self.run(image)


def run(
    work: list[FileJob],
    network: Callable[[Image], Image] = lambda image: image,
    reported: list[FileResult] | None = None,
) -> list[str | None]:
    denoiser = cast("Denoiser", Network(network))
    reported = [] if reported is None else reported
    results = run_jobs(
        denoiser,
        work,
        saving=AS_READ,
        reading=ReadOptions(max_pixels=100),
        progress=silent,
        on_result=reported.append,
    )
    assert [result.source for result in results] == [job.source for job in work]
    assert sorted(reported, key=lambda result: int(result.source.stem)) == results
    return [None if result.output is None else result.output.name for result in results]


def test_the_next_image_is_read_and_the_last_one_written_while_one_is_denoised(disk: Disk) -> None:
    next_read, first_written = threading.Event(), threading.Event()

    def network(image: Image) -> Image:
        if image.pixels[0, 0, 0] == 0:
            assert next_read.wait(TIMEOUT_S)  # 1.png is read while 0.png is here
        if image.pixels[0, 0, 0] == 1:
            assert first_written.wait(TIMEOUT_S)  # 0.png is written while 1.png is here
        return image

    disk.before_reading = lambda name: next_read.set() if name == "1.png" else None
    disk.before_writing = lambda name: first_written.set() if name == "0.png" else None
    assert run(jobs(3), network) == ["0.png", "1.png", "2.png"]


def test_results_keep_their_order_when_writes_end_in_another(disk: Disk) -> None:
    second_written = threading.Event()

    def wait(name: str) -> None:
        if name == "0.png":
            assert second_written.wait(TIMEOUT_S)
        elif name == "1.png":
            second_written.set()

    disk.before_writing = wait
    assert run(jobs(4)) == ["0.png", "1.png", "2.png", "3.png"]
    assert disk.written.index("1.png") < disk.written.index("0.png")


def test_few_images_wait_however_slow_the_network_is(disk: Disk) -> None:
    assert len(set(run(jobs(60)))) == 60
    assert disk.most_in_memory <= 2 * pipeline._WAITING_IMAGES + 2


def test_images_that_are_too_large_to_wait_are_in_memory_one_by_one(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_WAITING_BYTES", 30_000)
    assert len(set(run(jobs(5, side_px=101)))) == 5
    assert disk.most_in_memory == 1
    assert disk.read == disk.written


@pytest.mark.parametrize("where", ["reading", "denoising", "writing"])
def test_an_error_does_not_stop_the_others(disk: Disk, where: str) -> None:
    def fail(name: str) -> None:
        if name == "1.png":
            raise OSError("a fault")

    def network(image: Image) -> Image:
        if where == "denoising":
            fail(f"{image.pixels[0, 0, 0]}.png")
        return image

    if where == "reading":
        disk.before_reading = fail
    elif where == "writing":
        disk.before_writing = fail
    assert run(jobs(4), network) == ["0.png", None, "2.png", "3.png"]


def test_a_result_has_the_size_and_the_seconds_of_the_stages_that_were_reached(disk: Disk) -> None:
    def network(image: Image) -> Image:
        if image.pixels[0, 0, 0] == 1:
            raise ImageError("a fault")
        return image

    reported: list[FileResult] = []
    refused = FileJob(Path("2.png"), Path("out/2.png"), "again", None, ImageError("refused"))
    run([*jobs(2), refused], network, reported)
    assert reported[0].source.name == "2.png"
    stages = {
        result.source.stem: [stage for stage, seconds in asdict(result.seconds).items() if seconds is not None]
        for result in reported
    }
    assert stages == {"0": ["read", "denoise", "write"], "1": ["read", "denoise"], "2": []}
    assert {result.megapixels for result in reported} == {16 / 1e6, None}


def test_an_interruption_finishes_the_writes_that_have_begun_and_nothing_else(disk: Disk) -> None:
    writing = threading.Event()

    def network(image: Image) -> Image:
        if image.pixels[0, 0, 0] == 1:
            assert writing.wait(TIMEOUT_S)
            raise KeyboardInterrupt
        return image

    disk.before_writing = lambda name: writing.set()
    reported: list[FileResult] = []
    with pytest.raises(KeyboardInterrupt):
        run(jobs(50), network, reported)
    assert disk.written == ["0.png"]
    assert [result.output for result in reported] == [Path("out/0.png")]
    assert len(disk.read) <= 2 + pipeline._WAITING_IMAGES
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("edgedenoise-files")]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs signals of POSIX")
def test_an_image_is_reported_whose_writing_is_waited_for_at_the_interruption(disk: Disk) -> None:
    def interrupt(_: str) -> None:
        time.sleep(0.2)  # the main thread has no other image, and waits for this one
        signal.pthread_kill(cast("int", threading.main_thread().ident), signal.SIGINT)
        time.sleep(0.2)

    disk.before_writing = interrupt
    reported: list[FileResult] = []
    with pytest.raises(KeyboardInterrupt):
        run(jobs(1), reported=reported)
    assert disk.written == ["0.png"]
    assert [result.output for result in reported] == [Path("out/0.png")]
