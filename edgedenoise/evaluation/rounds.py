"""Time variants in rounds, each in a process of its own: whole calls, and the network alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from edgedenoise.errors import IncompatibleError, MeasurementError
from edgedenoise.evaluation.worker import OpenOptions, Worker
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.timing import MAX_WARM_UP, time_in_turns
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import ExitStack
    from pathlib import Path

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Variant

    Scope = Literal["call", "network"]


@dataclass(frozen=True)
class Selection:
    """Which variants of a bundle are measured; an empty part selects all."""

    variants: Collection[str] = ()
    """Names of variants."""
    runtimes: Collection[str] = ()
    precisions: Collection[str] = ()

    def of(self, bundle: Bundle) -> list[Variant]:
        """Return the selected variants of a bundle.

        Raises:
            IncompatibleError: there is none, or a name is of no variant.
        """
        for name in self.variants:
            bundle.variant(name)
        chosen = [
            variant
            for variant in bundle.manifest.variants
            if (not self.variants or variant.name in self.variants)
            and (not self.runtimes or variant.runtime in self.runtimes)
            and (not self.precisions or variant.precision in self.precisions)
        ]
        if not chosen:
            have = ", ".join(f"{v.name} ({v.runtime}, {v.precision})" for v in bundle.manifest.variants) or "none"
            raise IncompatibleError(
                f"{bundle.source} has no variants to measure; expected at least one that was selected, got {have}",
                hint=f"Inspect it with: {command_line('inspect', bundle.source)}",
            )
        return chosen

    def words(self) -> list[str]:
        """Return the words of the command-line options that select the same."""
        options = (("--variant", self.variants), ("--runtime", self.runtimes), ("--precision", self.precisions))
        return [word for option, values in options for value in values for word in (option, value)]


EVERYTHING = Selection()


@dataclass(frozen=True)
class Samples:
    """Milliseconds of every timed run, by variant."""

    call: Mapping[str, Sequence[float]]
    """Whole calls: normalization, tiling, inference and the inverse steps."""
    call_px: tuple[int, int]
    """(height, width) of the image."""
    network: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """The network alone, on an input in memory."""
    warm_up_call: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Whole calls before them, which do not count."""
    warm_up_network: Mapping[str, Sequence[float]] = field(default_factory=dict)
    stable: bool = True
    """Whether no time was still falling when the warm-up ended."""

    def followed_by(self, later: Samples) -> Samples:
        """Return the samples of both, as of one measurement."""

        def joined(one: Mapping[str, Sequence[float]], other: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
            return {name: [*one.get(name, ()), *other.get(name, ())] for name in {**one, **other}}

        return Samples(
            call=joined(self.call, later.call),
            call_px=self.call_px,
            network=joined(self.network, later.network),
            warm_up_call=joined(self.warm_up_call, later.warm_up_call),
            warm_up_network=joined(self.warm_up_network, later.warm_up_network),
            stable=self.stable and later.stable,
        )

    @property
    def remarks(self) -> tuple[str, ...]:
        """Warnings about the samples, each as a sentence."""
        if self.stable:
            return ()
        return (f"Times were still falling after {MAX_WARM_UP} rounds of warm-up.",)


def start_workers(
    stack: ExitStack, bundle: Bundle, options: OpenOptions, selection: Selection = EVERYTHING
) -> list[Worker]:
    """Open the selected variants, each in a process of its own.

    Raises:
        IncompatibleError: no variant is selected.
        MeasurementError: no variant could be opened.
    """
    chosen = selection.of(bundle)
    workers = [stack.enter_context(Worker(bundle, variant, options)) for variant in chosen]
    check_measured(bundle, workers)
    return workers


def time_rounds(
    workers: Sequence[Worker], path: Path, shape_px: tuple[int, int], repeats: int, progress: Progress = silent
) -> Samples:
    """Time one image, and the network alone on an input of the same size, in interleaved rounds.

    Args:
        workers: one per variant.
        path: the image file.
        shape_px: (height, width) of the image.
        repeats: rounds that count.
        progress: called before each round.
    """
    runs: dict[tuple[str, Scope], Callable[[], float | None]] = {}
    for worker in workers:
        runs[worker.variant.name, "call"] = partial(worker.denoise, path)
        runs[worker.variant.name, "network"] = partial(worker.run_network, *shape_px)
    turns = time_in_turns(runs, repeats, progress)

    def of(scope: Scope, samples: Mapping[tuple[str, Scope], list[float]]) -> dict[str, list[float]]:
        return {name: values for (name, kind), values in samples.items() if kind == scope}

    return Samples(
        call=of("call", turns.samples),
        call_px=shape_px,
        network=of("network", turns.samples),
        warm_up_call=of("call", turns.warm_up),
        warm_up_network=of("network", turns.warm_up),
        stable=turns.stable,
    )


def check_measured(bundle: Bundle, workers: Sequence[Worker]) -> None:
    """Check that at least one worker has not failed.

    Raises:
        MeasurementError: all of them failed; the message has the reason of each.
    """
    if all(worker.error for worker in workers):
        reasons = "\n".join(f"  {worker.variant.name}: {worker.error}" for worker in workers)
        raise MeasurementError(
            f"none of the {len(workers)} variants of {bundle.source} could be measured:\n{reasons}",
            hint=f"Check the bundle and this machine with: {command_line('verify', bundle.source)}; edgedenoise doctor",
        )
