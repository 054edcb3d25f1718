"""Time models in turns: a machine's speed drifts with heat and other load, the ratio within one round does not."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from edgedenoise.runtimes.checked import CheckedSession

WARM_UP = 2
"""Least number of rounds that are not counted: the first runs allocate, pack weights and compile for the shape."""
MAX_WARM_UP = 10
"""Most rounds that are not counted."""
STILL_FALLING = 0.95
"""A time below this part of the best one before means that the warm-up is not finished."""
DEFAULT_ROUNDS = 9
_SEED = 0

Key = TypeVar("Key", bound="Hashable")


@dataclass(frozen=True)
class Turns(Generic[Key]):
    """Times of runs that were measured in turns; a run that failed has fewer."""

    samples: dict[Key, list[float]]
    """Times of the rounds that count, in order."""
    warm_up: dict[Key, list[float]]
    """Times of the rounds before them."""
    stable: bool
    """Whether no time was still falling when the warm-up ended."""


def time_in_turns(
    runs: Mapping[Key, Callable[[], float | None]], rounds: int, progress: Progress = silent
) -> Turns[Key]:
    """Run each model once per round, in random order within a round, and measure the times.

    The warm-up ends when no time has fallen by more than a twentieth below the best one before, at the latest after
    `MAX_WARM_UP` rounds. Other work on the machine makes times longer and not shorter, so it does not prolong the
    warm-up.

    Args:
        runs: by name, a function that runs the model once and returns its time in any unit, or None when it failed.
        rounds: number of rounds that are counted, after the warm-up.
        progress: called before each round, in two stages: `warm up` and `measure`.

    Returns:
        Times by name. The order within the rounds is a fixed sequence of random ones.
    """
    order = np.random.default_rng(_SEED)
    warm_up: dict[Key, list[float]] = {key: [] for key in runs}
    samples: dict[Key, list[float]] = {key: [] for key in runs}
    stable = False
    for done in range(MAX_WARM_UP):
        progress("warm up", done, MAX_WARM_UP)
        _run_round(runs, warm_up, order)
        if done + 1 >= WARM_UP and all(map(_has_settled, warm_up.values())):
            stable = True
            break
    progress("warm up", MAX_WARM_UP, MAX_WARM_UP)
    for done in range(rounds):
        progress("measure", done, rounds)
        _run_round(runs, samples, order)
    progress("measure", rounds, rounds)
    return Turns(samples, warm_up, stable)


def _run_round(
    runs: Mapping[Key, Callable[[], float | None]], into: dict[Key, list[float]], order: np.random.Generator
) -> None:
    keys = list(runs)
    for index in order.permutation(len(keys)):
        value = runs[keys[index]]()
        if value is not None:
            into[keys[index]].append(value)


def _has_settled(times: Sequence[float]) -> bool:
    """Return whether the last time is not much below the best one before; also for a run that failed."""
    return len(times) < 2 or times[-1] >= STILL_FALLING * min(times[:-1])


def round_ratios(reference: Sequence[float], times: Sequence[float]) -> list[float]:
    """Return reference time / time of each round (above 1 is faster); none unless every round was timed."""
    if not times or len(times) != len(reference):
        return []
    return [float(one) for one in np.array(reference) / np.array(times)]


def speed_ratio(reference: Sequence[float], times: Sequence[float]) -> float | None:
    """Return the median over rounds of reference time / time (above 1 is faster); None unless every round was timed."""
    ratios = round_ratios(reference, times)
    return float(np.median(ratios)) if ratios else None


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

    samples = time_in_turns({"reference": seconds(reference), "other": seconds(other)}, rounds).samples
    return float(np.median(round_ratios(samples["reference"], samples["other"])))
