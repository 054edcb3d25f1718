"""Time models in turns: a machine's speed drifts with heat and other load, the ratio within one round does not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgedenoise.runtimes.checked import CheckedSession

WARM_UP = 2
"""Number of rounds that are not counted: the first runs allocate, pack weights and compile for the shape."""
DEFAULT_ROUNDS = 9


def time_in_turns(
    runs: Mapping[str, Callable[[], float | None]], rounds: int, progress: Progress = silent
) -> dict[str, list[float]]:
    """Run each model once per round, and measure the times.

    Args:
        runs: by name, a function that runs the model once and returns its time in any unit, or None when it failed.
        rounds: number of rounds that are counted, after the warm-up.
        progress: called before each round.

    Returns:
        Times by name, in order of the rounds; a model that failed has fewer.
    """
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(WARM_UP + rounds):
        progress("measure", round_, WARM_UP + rounds, "warm-up" if round_ < WARM_UP else "")
        for name, run in runs.items():
            value = run()
            if value is not None and round_ >= WARM_UP:
                samples[name].append(value)
    progress("measure", WARM_UP + rounds, WARM_UP + rounds)
    return samples


def speed_ratio(reference: Sequence[float], times: Sequence[float]) -> float | None:
    """Return the median over rounds of reference time / time (above 1 is faster); None unless every round was timed."""
    if not times or len(times) != len(reference):
        return None
    return _median_ratio(reference, times)


def speed_against(
    reference: CheckedSession, other: CheckedSession, *, side_px: int = 256, rounds: int = DEFAULT_ROUNDS
) -> float:
    """Measure the speed of two opened models on a square of noise, in turns within this process.

    Runtimes share thread pools within a process, so this compares two models on *one* runtime; `bench` and `compare`
    give each variant a process of its own.

    Args:
        reference: usually float.
        other: usually the same network in integers, on the same runtime.
        side_px: side of the square; a multiple of what the network shuffles.
        rounds: timed runs of each, after the warm-up.

    Returns:
        The median over rounds of the reference's time / the other's; above 1 the other is faster.

    Raises:
        InferenceError: one of the models fails.
    """
    x = np.random.default_rng(0).random((1, reference.channels, side_px, side_px), np.float32)

    def seconds(session: CheckedSession) -> Callable[[], float]:
        def run() -> float:
            start = time.perf_counter()
            session.run(x)
            return time.perf_counter() - start

        return run

    samples = time_in_turns({"reference": seconds(reference), "other": seconds(other)}, rounds)
    return _median_ratio(samples["reference"], samples["other"])


def _median_ratio(reference: Sequence[float], times: Sequence[float]) -> float:
    return float(np.median(np.array(reference) / np.array(times)))
