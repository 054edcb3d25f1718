"""Images denoised on the machines of a Ray cluster: one worker per device, which loads the model once.

All nodes see the inputs and the output folder under the same paths, and have edgedenoise installed. A worker that ends
unexpectedly loses the images that it had; they are denoised again, and each image has one result.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgedenoise.batch.pipeline import planned_result, run_jobs
from edgedenoise.batch.results import FileResult, OpenedModel
from edgedenoise.bundles.pretrained import SHIPPED
from edgedenoise.denoiser import load
from edgedenoise.errors import DeviceError, EdgeDenoiseError
from edgedenoise.extras import missing_package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from edgedenoise.batch.plan import FileJob
    from edgedenoise.denoiser import Denoiser
    from edgedenoise.imaging.readers.options import ReadOptions
    from edgedenoise.imaging.saving import SaveOptions
    from edgedenoise.progress import Progress

_log = logging.getLogger(__name__)
_BATCH: Final = 8
"""Most images that a worker is given at once."""
_BATCHES_AHEAD: Final = 2
"""Batches that a worker has, so that it does not wait for the next one."""
_ATTEMPTS: Final = 3
"""Workers that may end while they have an image, before the image counts as the reason."""
_STOP_S: Final = 10.0
"""Longest time that interrupted workers have to finish what they write."""


class ClusterWorker:
    """Denoises images on one device, in a process of its own."""

    def __init__(self) -> None:
        self._denoiser: Denoiser | None = None
        self._stopping = threading.Event()

    def open(self, model: str, options: Mapping[str, Any]) -> OpenedModel | EdgeDenoiseError:
        """Load the model; return what was opened, or the error."""
        try:
            self._denoiser = load(model, **options)
        except EdgeDenoiseError as error:
            return error
        return OpenedModel.by(self._denoiser)

    def run(self, jobs: Sequence[FileJob], saving: SaveOptions, reading: ReadOptions) -> list[FileResult]:
        """Denoise images and return their results; after `stop` those of the images that were finished."""
        if self._denoiser is None:
            raise RuntimeError("the model is not open")
        results: list[FileResult] = []

        def progress(stage: str, done: int, total: int, note: str = "") -> None:  # noqa: ARG001
            if self._stopping.is_set():
                raise KeyboardInterrupt

        try:
            run_jobs(self._denoiser, jobs, saving=saving, reading=reading, progress=progress, on_result=results.append)
        except KeyboardInterrupt:
            if not self._stopping.is_set():
                raise
        return results

    def stop(self) -> None:
        """Make `run` finish the images that are being written, and begin no other."""
        self._stopping.set()


@dataclass(eq=False)
class _Slot:
    """A device of the cluster, and the worker that runs on it."""

    node: Mapping[str, Any]
    gpu: bool
    actor: Any = None
    running: list[Any] = field(default_factory=list)
    """References of the batches that the worker has, oldest first."""

    @property
    def name(self) -> str:
        """Name of the node, for messages."""
        return str(self.node.get("NodeManagerHostname") or self.node["NodeManagerAddress"])


def run_on_cluster(
    jobs: Sequence[FileJob],
    model: Path | str,
    options: Mapping[str, Any],
    *,
    saving: SaveOptions,
    reading: ReadOptions,
    progress: Progress,
    on_result: Callable[[FileResult], None],
) -> tuple[OpenedModel, list[FileResult]]:
    """Denoise images on the cluster that Ray finds, or on this machine.

    Args:
        jobs: the images; those with an error are reported and left out.
        model: bundle, lone model file, or the name of a shipped bundle.
        options: the options of `edgedenoise.load`.
        saving: compression of the outputs.
        reading: how inputs are read.
        progress: called after each batch.
        on_result: called with each result, once.

    Returns:
        What the first worker opened, and one result per job, in the order of the jobs.

    Raises:
        DeviceError: the cluster cannot be reached, or no node of it can run a worker.
        RuntimeUnavailableError: the `ray` extra is not installed.
        EdgeDenoiseError: whatever `load` raises on the nodes, when it fails on all of them.
    """
    with _connected() as ray:
        name = str(model) if str(model) in SHIPPED else str(Path(model).absolute())
        cluster = _Cluster(ray, name, options)
        try:
            opened = cluster.open()
            run = _Run(cluster, jobs, saving, reading, progress, on_result)
            return opened, run.run()
        finally:
            cluster.close()


@contextmanager
def _connected() -> Iterator[Any]:
    """Yield the module of Ray, connected to a cluster; nothing is reported to its makers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise (missing_package(error) or error) from error
    if ray.is_initialized():
        yield ray
        return
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many classes
        reason = str(error).partition("\n")[0]
        hint = f"Check it with: ray status. RAY_ADDRESS is {os.environ.get('RAY_ADDRESS', 'not set')}."
        raise DeviceError(f"the Ray cluster cannot be reached or started: {reason}", hint=hint) from error
    try:
        yield ray
    finally:
        ray.shutdown()


class _Cluster:
    """The workers of a run."""

    def __init__(self, ray: Any, model: str, options: Mapping[str, Any]) -> None:
        self.ray = ray
        self.slots: list[_Slot] = []
        self._model = model
        self._options = dict(options)
        self._remote = ray.remote(concurrency_groups={"control": 1})(ClusterWorker)

    def open(self) -> OpenedModel:
        """Start a worker for each device and return what the first one opened."""
        slots = [slot for node in self.ray.nodes() if node["Alive"] for slot in self._slots_of(node)]
        answers = [(slot, self._start(slot)) for slot in slots]
        errors: list[EdgeDenoiseError] = []
        opened: list[OpenedModel] = []
        on_cpu: set[str] = set()
        for slot, reference in answers:
            answer = self._answer(slot, reference)
            if isinstance(answer, EdgeDenoiseError):
                _log.warning("%s is not used: %s", slot.name, answer.message)
                errors.append(answer)
                self._kill(slot)
            elif answer.effective.device == "cpu" and slot.node["NodeID"] in on_cpu:
                self._kill(slot)  # a GPU that the runtime does not use
            else:
                on_cpu |= {slot.node["NodeID"]} if answer.effective.device == "cpu" else set()
                self.slots.append(slot)
                opened.append(answer)
        if not opened:
            raise (
                errors[0]
                if errors
                else DeviceError(
                    "no node of the Ray cluster can run a worker: expected a node with a free CPU or GPU",
                    hint="Check the cluster with: ray status",
                )
            )
        return opened[0]

    def replace(self, slot: _Slot) -> None:
        """Start another worker in the place of one that has ended; give the slot up where that fails."""
        nodes = {node["NodeID"] for node in self.ray.nodes() if node["Alive"]}
        answer: OpenedModel | EdgeDenoiseError
        if slot.node["NodeID"] in nodes:
            answer = self._answer(slot, self._start(slot))
        else:
            answer = DeviceError("the node has left the cluster")
        if isinstance(answer, EdgeDenoiseError):
            _log.warning("%s is not used any more: %s", slot.name, answer.message)
            self.slots.remove(slot)

    def close(self) -> None:
        """End all workers."""
        for slot in self.slots:
            self._kill(slot)

    def _slots_of(self, node: Mapping[str, Any]) -> list[_Slot]:
        """Return the devices of a node: its GPUs, unless the CPU was asked for, or the CPU."""
        resources = node["Resources"]
        gpus = 0 if self._options.get("device") == "cpu" else int(resources.get("GPU", 0))
        if gpus:
            return [_Slot(node, gpu=True) for _ in range(gpus)]
        return [_Slot(node, gpu=False)] if resources.get("CPU", 0) >= 1 else []

    def _start(self, slot: _Slot) -> Any:
        """Start a worker and return the reference of what it opens."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        strategy = NodeAffinitySchedulingStrategy(slot.node["NodeID"], soft=False)
        needs = {"num_cpus": 0, "num_gpus": 1} if slot.gpu else {"num_cpus": 1}
        slot.actor = self._remote.options(scheduling_strategy=strategy, **needs).remote()
        return slot.actor.open.remote(self._model, self._options)

    def _answer(self, slot: _Slot, reference: Any) -> OpenedModel | EdgeDenoiseError:
        try:
            answer: OpenedModel | EdgeDenoiseError = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().rpartition("\n")[2]
            return DeviceError(f"the worker on {slot.name} cannot start: {reason}")
        return answer

    def _kill(self, slot: _Slot) -> None:
        self.ray.kill(slot.actor)


class _Run:
    """Images divided among the workers."""

    def __init__(
        self,
        cluster: _Cluster,
        jobs: Sequence[FileJob],
        saving: SaveOptions,
        reading: ReadOptions,
        progress: Progress,
        on_result: Callable[[FileResult], None],
    ) -> None:
        self._cluster = cluster
        self._ray = cluster.ray
        self._jobs = jobs
        self._how = (saving, reading)
        self._progress = progress
        self._on_result = on_result
        self._results = [planned_result(job) for job in jobs]
        todo = [number for number, job in enumerate(jobs) if job.error is None]
        size = max(1, min(_BATCH, len(todo) // (4 * len(cluster.slots))))
        self._waiting = deque(todo[at : at + size] for at in range(0, len(todo), size))
        self._given: dict[Any, tuple[_Slot, list[int]]] = {}
        self._losses: Counter[int] = Counter()
        self._finished = len(jobs) - len(todo)

    def run(self) -> list[FileResult]:
        """Denoise all images."""
        for result in self._results:
            if result.error is not None:
                self._on_result(result)
        try:
            while self._waiting or self._given:
                self._progress("denoise", self._finished, len(self._jobs))
                self._give()
                self._collect()
        except KeyboardInterrupt:
            self._stop()
            raise
        self._progress("denoise", len(self._jobs), len(self._jobs))
        return self._results

    def _give(self) -> None:
        """Send batches to the workers that have few; without workers, all that is left has failed."""
        for slot in self._cluster.slots:
            while self._waiting and len(slot.running) < _BATCHES_AHEAD:
                batch = self._waiting.popleft()
                reference = slot.actor.run.remote([self._shared(number) for number in batch], *self._how)
                slot.running.append(reference)
                self._given[reference] = slot, batch
        if not self._cluster.slots:
            for number in (number for batch in self._waiting for number in batch):
                self._fail(number, "no worker of the Ray cluster is left")
            self._waiting.clear()

    def _collect(self) -> None:
        """Wait for a batch; when its worker has ended, its images wait again."""
        ready, _ = self._ray.wait(list(self._given), num_returns=1) if self._given else ([], [])
        for reference in ready:
            try:
                results = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                self._lose(self._given[reference][0], error)
            else:
                slot, batch = self._given.pop(reference)
                slot.running.remove(reference)
                self._report(batch, results)

    def _lose(self, slot: _Slot, error: Exception) -> None:
        """Queue all images of a worker that has ended again, one by one; the oldest batch is the one that ran."""
        lost = [self._given.pop(reference)[1] for reference in slot.running]
        slot.running.clear()
        self._losses.update(lost[0])
        numbers = [number for batch in lost for number in batch]
        _log.warning("a worker on %s ended; %d images are denoised again", slot.name, len(numbers))
        _log.info("the worker ended: %s", error)
        for number in numbers:
            if self._losses[number] >= _ATTEMPTS:
                self._fail(number, f"{_ATTEMPTS} workers ended while they had it")
            else:
                self._waiting.append([number])
        self._cluster.replace(slot)

    def _report(self, batch: list[int], results: Sequence[FileResult]) -> None:
        """Take the results of a batch, with the paths as they were given."""
        by_source = {str(result.source): result for result in results}
        for number in batch:
            result = by_source.get(str(self._shared(number).source))
            if result is not None:
                job = self._jobs[number]
                output = None if result.output is None else job.output
                self._finish(number, replace(result, source=job.source, output=output))

    def _fail(self, number: int, reason: str) -> None:
        job = self._jobs[number]
        error = DeviceError(f"{job.source} cannot be denoised: {reason}", hint=f"Try it alone: {job.again}")
        self._finish(number, replace(self._results[number], error=error))

    def _finish(self, number: int, result: FileResult) -> None:
        self._results[number] = result
        self._finished += 1
        self._on_result(result)

    def _shared(self, number: int) -> FileJob:
        """Return a job with paths that do not depend on the working folder."""
        job = self._jobs[number]
        return replace(job, source=job.source.absolute(), output=job.output.absolute())

    def _stop(self) -> None:
        """Wait until the workers have finished what they write, and report it."""
        for slot in self._cluster.slots:
            slot.actor.stop.options(concurrency_group="control").remote()
        if not self._given:
            return
        ready, _ = self._ray.wait(list(self._given), num_returns=len(self._given), timeout=_STOP_S)
        for reference in ready:
            try:
                results = self._ray.get(reference)
            except self._ray.exceptions.RayError:
                continue
            self._report(self._given[reference][1], results)
