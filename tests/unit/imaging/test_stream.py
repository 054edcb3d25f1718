"""Frames of a live source: which are dropped, in what order results come, how delays are counted."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedenoise.errors import ImageError, UsageError
from edgedenoise.imaging.similarity import SimilarityFilter, cell_means
from edgedenoise.imaging.stream import Delays, FrameQueue, FrameStream

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S = 10


class Source:
    """Frames 0, 1, ...: the consumer decides when further ones come."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.given = 0
        self.allowed = threading.Semaphore(0)
        self.closed = threading.Event()

    def frames(self) -> Iterator[int]:
        try:
            for number in range(self.count):
                assert self.allowed.acquire(timeout=WAIT_S)
                self.given += 1
                yield number
        finally:
            self.closed.set()

    def wait_for_reader(self, queue: FrameQueue[int], captured: int) -> None:
        with queue._changed:
            assert queue._changed.wait_for(lambda: queue.captured >= captured, WAIT_S)


def test_the_latest_frame_replaces_those_that_wait() -> None:
    source = Source(10)
    queue = FrameQueue(source.frames(), "latest", 1)
    waiting = iter(queue)
    source.allowed.release()
    assert next(waiting).frame == 0
    source.allowed.release(6)
    source.wait_for_reader(queue, 7)
    newest = next(waiting)
    assert (newest.frame, newest.index, queue.dropped) == (6, 6, 5)
    source.allowed.release(3)
    source.wait_for_reader(queue, 10)
    assert [captured.frame for captured in waiting] == [9]
    assert (queue.captured, queue.dropped) == (10, 7)
    queue.close()


def test_blocking_drops_nothing_and_never_reads_far_ahead() -> None:
    read: list[int] = []

    def frames() -> Iterator[int]:
        for number in range(50):
            read.append(number)
            yield number

    queue = FrameQueue(frames(), "block", 2)
    for taken, captured in enumerate(queue):
        assert captured.frame == taken
        assert len(read) <= taken + 4  # two wait, one is held by the reader, one has just been taken
    assert taken == 49
    assert queue.dropped == 0
    queue.close()


def test_leaving_early_stops_and_closes_the_source() -> None:
    source = Source(10**9)
    source.allowed = threading.Semaphore(10**9)
    with FrameStream(source.frames(), lambda number: number, policy="block") as stream:
        for result in stream:
            if result.index == 3:
                break
    assert source.closed.wait(WAIT_S)
    assert source.given < 10


@pytest.mark.parametrize("patience_s", [0.05, None])
def test_a_source_that_hangs_is_left_to_its_thread(patience_s: float | None) -> None:
    source = Source(3)
    queue = FrameQueue(source.frames(), patience_s=patience_s)
    source.allowed.release()
    assert next(iter(queue)).frame == 0
    if patience_s is None:
        threading.Timer(0.2, source.allowed.release, [2]).start()
    queue.close()
    assert source.closed.is_set() == (patience_s is None)
    source.allowed.release(2)
    assert source.closed.wait(WAIT_S)


def test_an_error_of_a_source_that_is_closed_is_raised() -> None:
    class Camera:
        def __iter__(self) -> Iterator[int]:
            return iter([1])

        def close(self) -> None:
            raise ImageError("the camera is gone")

    taken = []
    with pytest.raises(ImageError, match="the camera is gone"), FrameStream(Camera(), lambda frame: frame) as stream:
        taken.extend(result.image for result in stream)
    assert taken == [1]


def test_an_error_of_the_source_is_raised_after_the_frames_before_it() -> None:
    def frames() -> Iterator[int]:
        yield 1
        raise ImageError("the camera is gone")

    with FrameStream(frames(), lambda number: number, policy="block") as stream:
        results = iter(stream)
        assert next(results).image == 1
        with pytest.raises(ImageError, match="the camera is gone"):
            next(results)


@pytest.mark.parametrize(
    ("policy", "most", "message"),
    [("newest", 1, "policy is 'newest'"), ("latest", 0, "max_queue is 0"), ("block", 1.5, "max_queue is 1.5")],
)
def test_options_that_are_not_accepted(policy: str, most: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FrameQueue([], policy, most)  # type: ignore[arg-type]


def test_the_report_counts_and_times_every_result() -> None:
    repeated = {3, 4}
    with FrameStream(range(8), lambda n: n * 10, policy="block", is_skippable=lambda n: n in repeated) as stream:
        results = list(stream)
    assert [result.image for result in results] == [0, 10, 20, 20, 20, 50, 60, 70]
    assert [result.is_repeated for result in results] == [n in repeated for n in range(8)]
    assert all(0 <= result.age_ms <= result.latency_ms for result in results)
    report = stream.report
    assert (report.captured, report.processed, report.repeated, report.dropped) == (8, 6, 2, 0)
    assert report.latency_ms.p50 is not None
    assert report.latency_ms.p50 <= report.latency_ms.p90 <= report.latency_ms.p99  # type: ignore[operator]
    assert report.frames_per_second > 0


def test_percentiles_of_delays_are_exact_to_a_percent() -> None:
    rng = np.random.default_rng(0)
    values = rng.lognormal(-3, 1, 20_000)
    delays = Delays()
    for value in values:
        delays.add(float(value))
    for share in (1, 50, 90, 99):
        assert delays.percentile_ms(share) == pytest.approx(np.percentile(values, share) * 1000, rel=0.012)
    assert len(delays._counts) < 2000
    assert Delays().percentile_ms(50) is None


def test_equal_frames_are_left_out_and_changed_ones_never() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (96, 128, 3), np.uint8)
    similar = SimilarityFilter(0.98, most=3)
    assert [similar(scene) for _ in range(6)] == [False, True, True, True, False, True]
    assert not similar(255 - scene)


def test_noise_does_not_hide_that_the_scene_stands_still() -> None:
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(40, 200, (8, 8)), np.ones((16, 16)))[..., None].repeat(3, axis=2)
    similar = SimilarityFilter(0.98)
    left_out = [similar(np.uint8(scene + rng.normal(0, 10, scene.shape))) for _ in range(40)]
    assert np.mean(left_out) > 0.7


def test_a_threshold_of_one_leaves_out_nothing() -> None:
    similar = SimilarityFilter(1)
    assert not any(similar(np.ones((32, 32), np.uint8)) for _ in range(5))
    with pytest.raises(UsageError, match="expected 0 to 1"):
        SimilarityFilter(1.5)


def test_cell_means_of_any_size() -> None:
    frame = np.random.default_rng(0).random((37, 50, 3), np.float32)
    means = cell_means(frame, 16)
    assert means.shape == (3, 4, 3)
    np.testing.assert_allclose(means[2, 3], frame[32:, 48:].mean(axis=(0, 1)), rtol=1e-5)
    np.testing.assert_allclose(means[0, 1], frame[:16, 16:32].mean(axis=(0, 1)), rtol=1e-5)
