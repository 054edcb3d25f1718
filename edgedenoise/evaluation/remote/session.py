"""Run one command on several devices at once, and bring back what each has measured."""

from __future__ import annotations

import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import edgedenoise
from edgedenoise.atomic import atomic_folder
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import BundleError, EdgeDenoiseError, HostError, RemoteCommandError
from edgedenoise.evaluation.identity import LABEL
from edgedenoise.evaluation.remote.connection import PYTHON, Connection
from edgedenoise.evaluation.remote.wheels import requirement, wheels_folder
from edgedenoise.evaluation.result_files import read_results
from edgedenoise.locks import one_writer
from edgedenoise.progress import JSON_PROGRESS, Progress, parse_progress, silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from edgedenoise.evaluation.remote.connection import Device
    from edgedenoise.evaluation.remote.host import Host
    from edgedenoise.evaluation.results import Run

OLDEST_PYTHON = (3, 10)
RESULT = "result.json"
"""Result file in the session's folder."""


@dataclass(frozen=True)
class RemoteJob:
    """A command of edgedenoise for devices."""

    words: tuple[str, ...]
    """The command line there, beginning with the name of the command. Paths are relative to the session's folder."""
    uploads: Mapping[str, Path]
    """Files and folders to copy, by their path in the session's folder."""
    repeats: tuple[str, ...]
    """Words of the command line here that repeats it, for result files; the address of the device is added."""
    source: str
    """Bundle as it was named here, for result files."""
    writes: Mapping[str, Path] = field(default_factory=dict)
    """Files to write here, by their path in the session's folder, where the command writes them."""
    changes: Mapping[str, Path] = field(default_factory=dict)
    """Bundle folders here that the command changes there, by their path in the session's folder."""


@dataclass(frozen=True)
class RemotePython:
    """The Python that runs the command on a device."""

    name: str = "python3"
    """Path, or name of a command."""
    install: bool = False
    """Whether to install edgedenoise in a virtual environment of the session, which is removed at its end."""
    wheels: tuple[Path, ...] = ()
    """Wheels, and folders of wheels, to install from; none to use the package index that the device reaches."""
    extras: tuple[str, ...] = ()
    """Extras of edgedenoise to install."""


@dataclass(frozen=True)
class HostResult:
    """What became of a command on one device."""

    host: Host
    text: str = ""
    """What the command wrote to its standard output."""
    notes: str = ""
    """What it wrote to its standard error, without its progress."""
    runs: tuple[Run, ...] = ()
    """What it measured; the label of the machine is the address of the device."""
    error: EdgeDenoiseError | None = None
    """Why it failed; None when it did not."""


def run_on_hosts(
    hosts: Sequence[Host], job: RemoteJob, python: RemotePython, progress: Progress = silent
) -> tuple[HostResult, ...]:
    """Run a command on all devices at the same time.

    Args:
        hosts: the devices.
        job: the command.
        python: what runs it.
        progress: called with the label of a device as the stage.

    Returns:
        One result per device, in their order. A device that fails costs no other device its result.

    Raises:
        UsageError: the wheels cannot be used.
        KeyboardInterrupt: the user stopped it; the devices remove what was copied to them.
    """
    lock = threading.Lock()

    def report(stage: str, done: int, total: int, note: str = "") -> None:
        with lock:
            progress(stage, done, total, note)

    with ExitStack() as stack:
        wheels = stack.enter_context(wheels_folder(python.wheels)) if python.install else None
        connections: list[Connection] = []
        pool = stack.enter_context(ThreadPoolExecutor(len(hosts)))
        futures = [pool.submit(_run_on, host, job, python, wheels, report, connections.append) for host in hosts]
        try:
            return tuple(future.result() for future in futures)
        except BaseException:
            for connection in connections:
                connection.abort()
            raise


def _run_on(
    host: Host,
    job: RemoteJob,
    python: RemotePython,
    wheels: Path | None,
    progress: Progress,
    opened: Callable[[Connection], None],
) -> HostResult:
    progress(host.label, 0, 1, "connecting")
    try:
        with Connection(host, python.name) as connection:
            opened(connection)
            _check_python(connection.device, host, python)
            progress(host.label, 0, 1, "copying files")
            connection.upload(job.uploads)
            executable = PYTHON
            if python.install:
                progress(host.label, 0, 1, "installing")
                executable = _install(connection, python, wheels)
            return _run_job(connection, job, executable, progress)
    except EdgeDenoiseError as error:
        return HostResult(host, error=error)


def _run_job(connection: Connection, job: RemoteJob, executable: str, progress: Progress) -> HostResult:
    host, notes = connection.host, []

    def on_line(line: str) -> None:
        reading = parse_progress(line)
        if reading is None:
            notes.append(line)
        else:
            progress(host.label, reading.done, reading.total, " ".join(filter(None, (reading.stage, reading.note))))

    words = [executable, "-m", "edgedenoise", *job.words]
    environment = {JSON_PROGRESS: "json", LABEL: host.label}
    finished = connection.run(f"running edgedenoise {job.words[0]}", words, environment, on_line)
    runs = _results(connection, job)
    for path, target in job.writes.items():
        connection.fetch(path, target)
    error = None
    if finished.code == 0:
        for path, bundle in job.changes.items():
            _bring_back(connection, path, bundle)
    else:
        error = _failure(host, job.words[0], finished.code, finished.stdout, "\n".join(notes))
    text = finished.stdout.decode(errors="replace")
    return HostResult(host, text, "\n".join(notes), runs, error)


def _results(connection: Connection, job: RemoteJob) -> tuple[Run, ...]:
    """Return the runs that a command has written on the device, as runs of the device for the reader here."""
    host = connection.host
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / RESULT
        if not connection.fetch(RESULT, file):
            return ()
        runs = read_results(file).runs
    return tuple(
        msgspec.structs.replace(
            run,
            arguments=(*job.repeats, "--on", host.address),
            bundle=msgspec.structs.replace(run.bundle, source=job.source),
        )
        for run in runs
    )


def _bring_back(connection: Connection, path: str, bundle: Path) -> None:
    """Replace a bundle folder by the one that the device has changed.

    Raises:
        BundleError: what the device has sent is no sound bundle, or another command writes the folder.
    """
    with one_writer(bundle, BundleError), atomic_folder(bundle) as folder:
        connection.fetch(path, folder)
        for variant in (opened := Bundle.open(folder)).manifest.variants:
            opened.model_files(variant)


def _failure(host: Host, command: str, code: int, stdout: bytes, notes: str) -> RemoteCommandError:
    """Return the error of a command, as it reported it: as JSON, or in words."""
    try:
        fields = msgspec.json.decode(stdout, type=dict[str, Any])
        message, hint = str(fields["message"]), fields.get("hint")
    except (msgspec.MsgspecError, KeyError):
        message, hint = notes.strip().removeprefix("error: ") or "its output has the reasons", None
    return RemoteCommandError(
        f"{host.label}: edgedenoise {command} failed with exit code {code}: {message}",
        hint=None if hint is None else f"On {host.label}: {hint}",
    )


def _check_python(device: Device, host: Host, python: RemotePython) -> None:
    """Check that the device's Python can run the command, or install what can.

    Raises:
        HostError: it is too old, or lacks edgedenoise, one of its packages, or this version of it.
    """
    oldest = ".".join(map(str, OLDEST_PYTHON))
    if tuple(map(int, device.python.split(".")[:2])) < OLDEST_PYTHON:
        raise HostError(
            f"{host.label}: {device.executable} is too old: expected Python {oldest} or newer, got {device.python}",
            hint="Name a newer one with --remote-python, for example --remote-python python3.12",
        )
    if python.install:
        return
    wanted = requirement(())
    hint = (
        f"Install it there with: {host.hint(device.executable, '-m', 'pip', 'install', wanted)}; or add --install,"
        " which uses a temporary environment on the device"
    )
    if device.missing:
        raise HostError(
            f"{host.label}: {device.executable} (Python {device.python}) lacks {', '.join(device.missing)}; expected"
            f" {wanted}",
            hint=hint,
        )
    if device.edgedenoise != edgedenoise.__version__:
        raise HostError(
            f"{host.label} has another version of edgedenoise: expected {edgedenoise.__version__}, got"
            f" {device.edgedenoise}",
            hint=hint,
        )


def _install(connection: Connection, python: RemotePython, wheels: Path | None) -> str:
    """Install edgedenoise in a virtual environment in the session's folder; return its Python.

    Raises:
        HostError: the device's Python cannot make an environment, or a package cannot be installed.
    """
    host, device = connection.host, connection.device
    # TensorRT of JetPack is a package of the system.
    system = ["--system-site-packages"] if device.jetson else []
    made = connection.run("making an environment", [PYTHON, "-m", "venv", *system, "venv"], {})
    if made.code != 0:
        raise HostError(
            f"{host.label}: {device.executable} cannot make a virtual environment: {_tail(made.stdout, made.stderr)}",
            hint=f"Install what is missing with: {host.hint('sudo', 'apt-get', 'install', 'python3-venv')}",
        )
    executable = f"{device.folder}/venv/bin/python"
    source: list[str] = []
    if wheels is not None:
        connection.upload({"wheels": wheels})
        source = ["--find-links", "wheels", *(["--no-index"] if python.wheels else [])]
    words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", *source, requirement(python.extras)]
    done = connection.run("installing edgedenoise", [executable, *words], {})
    if done.code != 0:
        raise HostError(
            f"{host.label}: {requirement(python.extras)} cannot be installed: {_tail(done.stdout, done.stderr)}",
            hint="Collect the wheels for the device (Python"
            f" {device.python}, {device.machine}) in a folder with pip download, and name it with --wheels",
        )
    return executable


def _tail(stdout: bytes, stderr: str) -> str:
    lines = (stdout.decode(errors="replace") + stderr).strip().splitlines()
    return "; ".join(line.strip() for line in lines[-3:]) or "it printed nothing"
