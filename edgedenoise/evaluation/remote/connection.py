"""A session with the agent on a device: one ssh process, frames over its standard streams."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from edgedenoise.atomic import write_bytes
from edgedenoise.bundles.manifest_json import is_inside
from edgedenoise.errors import HostError
from edgedenoise.evaluation.remote import agent
from edgedenoise.evaluation.remote.host import ALIVE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from edgedenoise.evaluation.remote.host import Host

PYTHON = "{python}"
"""Stands for the device's Python in the words of a command."""
_BOOTSTRAP = (
    "import sys; sys.path = [path for path in sys.path if path]; scope = {{'__name__': 'edgedenoise_agent'}};"
    " exec(compile(sys.stdin.buffer.read({size}), 'edgedenoise agent', 'exec'), scope); scope['main']()"
)
_MAX_HEAD = 1 << 16
_MAX_GREETING = 1 << 16
"""Bytes that a login script of the device may print before the agent starts."""
_MAX_BODY = 1 << 30
_ARCHIVE_BYTES = 32 << 20
"""Size from which files are sent in a further archive, so that neither side holds all of them in memory."""
_LEAVE_S = 60
"""Time in which the device removes what was copied to it; an environment has thousands of files."""
_NO_COMMAND = 127
"""Exit code of a shell that does not find a command."""


class Device(msgspec.Struct, frozen=True):
    """What the agent reports about the device's Python."""

    python: str
    executable: str
    machine: str
    edgedenoise: str
    """Installed version; empty where it is not installed."""
    missing: tuple[str, ...]
    """Modules of the base install that are missing."""
    jetson: bool
    folder: str


class Head(msgspec.Struct, frozen=True):
    """First line of a frame."""

    kind: str
    size: int
    stream: str = ""
    code: int = 0


class Finished(NamedTuple):
    """Outcome of a command on the device."""

    code: int
    stdout: bytes
    stderr: str


class Connection:
    """A session with one device. It ends with the block, and leaves nothing on the device.

    Args:
        host: the device.
        python: the Python to use there, a path or the name of a command.

    Raises:
        HostError: the device cannot be reached or has no Python, here and in all methods.
    """

    def __init__(self, host: Host, python: str) -> None:
        self.host = host
        self._python = python
        self._doing = "connecting"
        self._since = time.monotonic()
        self._writing = threading.Lock()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed in __exit__)
        source = Path(agent.__file__).read_bytes()
        command = f"exec {_shell_word(python)} -c {shlex.quote(_BOOTSTRAP.format(size=len(source)))}"
        try:
            self._process = subprocess.Popen(
                [*host.ssh_words(), command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr
            )
        except OSError as error:
            self._stderr.close()
            raise HostError(
                f"{host.label} cannot be reached: {host.program()[0]}: {error.strerror}",
                hint="Install OpenSSH's client, for example with: sudo apt-get install openssh-client",
            ) from None
        self._closed = threading.Event()
        try:
            self._write(source)
            self._await_agent()
            self.device = msgspec.json.decode(self._expect("hello")[1], type=Device)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        threading.Thread(target=self._stay_alive, daemon=True).start()

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        with suppress(HostError, OSError):
            self._send("end")
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with suppress(OSError):
                    stream.close()
        try:
            self._process.wait(timeout=_LEAVE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._stderr.close()

    def abort(self) -> None:
        """End the session from another thread; what waits for the device raises HostError."""
        self._closed.set()
        self._process.terminate()

    def upload(self, sources: Mapping[str, Path]) -> None:
        """Copy files and folders to the session's folder.

        Args:
            sources: file or folder by its name in the session's folder.
        """
        self._begin("copying files")
        for archive in _archives(sources):
            self._send("unpack", archive, path=".")
            self._expect("done")

    def run(
        self,
        doing: str,
        words: Sequence[str],
        environment: Mapping[str, str],
        on_line: Callable[[str], None] | None = None,
    ) -> Finished:
        """Run a program in the session's folder.

        Args:
            doing: what it does, for messages.
            words: its command line; `PYTHON` stands for the device's Python.
            environment: environment variables to set.
            on_line: called with each line of its standard error.
        """
        self._begin(doing)
        self._send("run", words=list(words), environment=dict(environment))
        stdout = io.BytesIO()
        stderr: list[str] = []
        while True:
            head, body = self._receive()
            if head.kind == "done":
                return Finished(head.code, stdout.getvalue(), "".join(stderr))
            if head.stream == "stdout":
                stdout.write(body)
            else:
                stderr.append(body.decode(errors="replace"))
                if on_line is not None:
                    on_line(stderr[-1].rstrip("\n"))

    def fetch(self, path: str, target: Path) -> bool:
        """Copy a file, or the content of a folder, from the session's folder; return whether it was there.

        Args:
            path: its name in the session's folder.
            target: where it is written.
        """
        self._begin("copying results")
        self._send("fetch", path=path)
        _, body = self._expect("files")
        return _unpack(body, target, self.host)

    def _begin(self, doing: str) -> None:
        self._doing, self._since = doing, time.monotonic()

    def _await_agent(self) -> None:
        """Skip what login scripts print, up to the agent's first line."""
        stream, skipped = self._stdout(), 0
        while (line := stream.readline(_MAX_HEAD)) != agent.MAGIC:
            skipped += len(line)
            if not line or skipped > _MAX_GREETING:
                raise self._lost()

    def _stay_alive(self) -> None:
        while not self._closed.wait(ALIVE_S):
            with suppress(HostError):
                self._send("alive")

    def _send(self, kind: str, body: bytes = b"", **more: object) -> None:
        self._write(msgspec.json.encode({"kind": kind, "size": len(body), **more}) + b"\n" + body)

    def _write(self, data: bytes) -> None:
        if self._process.stdin is None:
            raise self._lost()
        try:
            with self._writing:
                self._process.stdin.write(data)
                self._process.stdin.flush()
        except (OSError, ValueError):
            raise self._lost() from None

    def _expect(self, kind: str) -> tuple[Head, bytes]:
        head, body = self._receive()
        if head.kind != kind:
            raise self._lost()
        return head, body

    def _receive(self) -> tuple[Head, bytes]:
        stream = self._stdout()
        try:
            head = msgspec.json.decode(stream.readline(_MAX_HEAD), type=Head)
            body = stream.read(head.size) if 0 <= head.size <= _MAX_BODY else b""
        except (OSError, ValueError, msgspec.MsgspecError):
            raise self._lost() from None
        if len(body) != head.size:
            raise self._lost()
        return head, body

    def _stdout(self) -> Any:
        if self._process.stdout is None:
            raise self._lost()
        return self._process.stdout

    def _lost(self) -> HostError:
        """Return the error for a session that has ended, by what ssh reports."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=5)
        code = self._process.poll()
        self._stderr.seek(0)
        reported = self._stderr.read()[-2000:].decode(errors="replace").strip()
        if self._doing != "connecting":
            seconds = time.monotonic() - self._since
            reason = f": {reported.splitlines()[-1]}" if reported else ""
            return HostError(
                f"the connection to {self.host.label} ended while {self._doing}, after {seconds:.0f} s{reason}",
                hint="No results were written. The device removes what was copied to it. Check the connection, and run"
                f" the command again: {self.host.hint('uptime')}",
            )
        if code == _NO_COMMAND:
            return HostError(
                f"{self.host.label} has no Python called {self._python}: expected Python 3.10 or newer",
                hint=f"Install it with: {self.host.hint('sudo', 'apt-get', 'install', 'python3', 'python3-venv')};"
                " or name another one with --remote-python",
            )
        return HostError(
            f"{self.host.label} cannot be reached: {reported or f'ssh ended with exit code {code}'}",
            hint=self._advice(reported),
        )

    def _advice(self, reported: str) -> str:
        if "Host key verification failed" in reported:
            return f"Check and accept the key of the host once, by hand: {self.host.hint('true')}"
        if "Permission denied" in reported:
            words = self.host.hint().rstrip().split(" ", 1)[-1]
            return f"Passwords are not accepted; install a key once with: ssh-copy-id {words}"
        return f"Check the address and the connection with: {self.host.hint('true')}"


def _shell_word(python: str) -> str:
    """Return a path for the device's shell, which expands `~`."""
    return f"~/{shlex.quote(python[2:])}" if python.startswith("~/") else shlex.quote(python)


def _archives(sources: Mapping[str, Path]) -> Iterator[bytes]:
    """Yield tar archives of files and folders."""
    stream = io.BytesIO()
    archive = tarfile.open(fileobj=stream, mode="w")  # noqa: SIM115  (closed below, once per archive)
    for name, source in sources.items():
        files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
        for file in files:
            inside = PurePosixPath(name, *file.relative_to(source).parts)
            archive.add(file.resolve(), arcname=str(inside), recursive=False)
            if stream.tell() > _ARCHIVE_BYTES:
                archive.close()
                yield stream.getvalue()
                stream = io.BytesIO()
                archive = tarfile.open(fileobj=stream, mode="w")  # noqa: SIM115
    archive.close()
    yield stream.getvalue()


def _unpack(data: bytes, target: Path, host: Host) -> bool:
    """Write the files of an archive that a device has sent; return whether there were any.

    Raises:
        HostError: the archive is damaged, or has links or names that lead out of the target.
    """
    found = False
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                name = os.path.normpath(member.name)
                if member.isdir():
                    continue
                stream = archive.extractfile(member) if member.isreg() else None
                if stream is None or (name != "." and not is_inside(PurePosixPath(name).as_posix())):
                    raise HostError(f"{host.label} sent a file that is not accepted: {member.name!r}")
                path = target / name if name != "." else target
                write_bytes(path, stream.read())
                found = True
    except tarfile.TarError as error:
        raise HostError(f"{host.label} sent a damaged archive: {error}") from None
    return found
