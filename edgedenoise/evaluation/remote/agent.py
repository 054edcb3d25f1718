"""The program that runs on a device during one SSH session; its source is sent there, so it needs Python alone.

It works in one temporary folder, which it removes together with the processes that it has started whenever the session
ends: at the end of the job, when the connection closes, and when nothing was heard for a minute.

Both sides exchange frames: a line of JSON with at least `kind` and `size`, then `size` bytes. Each `alive` frame of the
client shows that it is still there.

| client | agent | effect |
| --- | --- | --- |
| | `hello` | what this Python is and has, as JSON |
| `unpack` | `done` | a tar archive is unpacked in the folder |
| `run` | `output`..., `done` | a program runs in the folder; `output` is what it prints |
| `fetch` | `files` | a file or folder, as a tar archive |
| `end` | | the folder is removed |
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import platform
import queue
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

MAGIC = b"edgedenoise-agent/1\n"
SILENCE_S = 60.0
"""Time without a frame after which the client is taken for lost; it sends one every few seconds."""
NEEDED = ("edgedenoise", "numpy", "PIL", "onnxruntime", "typer", "rich", "msgspec", "platformdirs", "filelock")
"""Modules of the base install."""


class Agent:
    """One session."""

    def __init__(self, frames: BinaryIO, replies: BinaryIO) -> None:
        self._frames = frames
        self._replies = replies
        self._writing = threading.Lock()
        self._received: queue.Queue[tuple[dict[str, Any], bytes] | None] = queue.Queue()
        self._heard = threading.Event()
        self._leaving = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="edgedenoise-")).resolve()

    def serve(self) -> None:
        """Answer frames until the client ends the session."""
        for name in ("SIGHUP", "SIGTERM", "SIGINT"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), lambda *_: self.leave(1))
        for target in (self._receive, self._watch):
            threading.Thread(target=target, daemon=True).start()
        try:
            self._replies.write(MAGIC)
            self._reply("hello", body=json.dumps(describe(str(self._folder))).encode())
            while True:
                received = self._received.get()
                if received is None or received[0]["kind"] == "end":
                    break
                getattr(self, "_" + received[0]["kind"])(*received)
        finally:
            self.leave(0)
            threading.Event().wait()  # another thread has begun to leave, and ends the process

    def leave(self, code: int) -> None:
        """Stop what was started, remove the folder, and exit; nothing where another thread does so already."""
        if not self._leaving.acquire(blocking=False):
            return
        child = self._child
        if child is not None and child.poll() is None:
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except (OSError, AttributeError):
                child.kill()
            child.wait()
        for _ in range(20):  # processes that were just killed may still hold or make files
            shutil.rmtree(self._folder, ignore_errors=True)
            if not self._folder.exists():
                break
            time.sleep(0.1)
        os._exit(code)  # threads that wait for frames would keep the process

    def _receive(self) -> None:
        """Read frames until the connection closes."""
        try:
            while True:
                line = self._frames.readline()
                head = json.loads(line.decode()) if line else None
                if head is None:
                    break
                body = self._frames.read(head["size"])
                self._heard.set()
                if head["kind"] != "alive":
                    self._received.put((head, body))
                    if head["kind"] == "end":
                        return
        except (OSError, ValueError):
            pass
        self.leave(1)

    def _watch(self) -> None:
        """Leave when the client is silent: a network that fails closes no connection."""
        while self._heard.wait(SILENCE_S):
            self._heard.clear()
        self.leave(1)

    def _reply(self, kind: str, body: bytes = b"", **more: object) -> None:
        with self._writing:
            try:
                self._replies.write(json.dumps({"kind": kind, "size": len(body), **more}).encode() + b"\n" + body)
                self._replies.flush()
            except OSError:
                self.leave(1)

    def _unpack(self, head: dict[str, Any], body: bytes) -> None:
        folder = self._folder / head["path"]
        with tarfile.open(fileobj=io.BytesIO(body)) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extractall(folder, filter="data")
            else:
                archive.extractall(folder)  # noqa: S202  (the client has made it)
        self._reply("done", code=0)

    def _run(self, head: dict[str, Any], _: bytes) -> None:
        """Run a program. Its caches and temporary files go to the folder, because it is removed."""
        words = [sys.executable if word == "{python}" else word for word in head["words"]]
        environment = {**os.environ, **head["environment"]}
        for name, sub in (("XDG_CACHE_HOME", "cache"), ("PIP_CACHE_DIR", "pip"), ("TMPDIR", "tmp")):
            (self._folder / sub).mkdir(exist_ok=True)
            environment[name] = str(self._folder / sub)
        try:
            self._child = subprocess.Popen(
                words,
                cwd=self._folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            self._reply("output", str(error).encode(), stream="stderr")
            self._reply("done", code=127)
            return
        forwarders = [
            threading.Thread(target=self._forward, args=(name, getattr(self._child, name)))
            for name in ("stdout", "stderr")
        ]
        for forwarder in forwarders:
            forwarder.start()
        for forwarder in forwarders:
            forwarder.join()
        self._reply("done", code=self._child.wait())

    def _forward(self, name: str, stream: BinaryIO) -> None:
        for line in iter(stream.readline, b""):
            self._reply("output", line, stream=name)

    def _fetch(self, head: dict[str, Any], _: bytes) -> None:
        path = self._folder / head["path"]
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as archive:
            if path.exists():
                archive.add(path, arcname=".")
        self._reply("files", stream.getvalue())


def describe(folder: str) -> dict[str, Any]:
    """Return what the client must know about this Python and this device."""
    version = ""
    if importlib.util.find_spec("edgedenoise") is not None:
        try:
            import edgedenoise

            version = edgedenoise.__version__
        except Exception as error:  # of any kind: the client reports it
            version = "broken: {}".format(error)  # noqa: UP032  (runs on any Python 3)
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "machine": platform.machine(),
        "edgedenoise": version,
        "missing": [name for name in NEEDED if importlib.util.find_spec(name) is None],
        "jetson": Path("/etc/nv_tegra_release").exists(),
        "folder": folder,
    }


def main() -> None:
    """Serve the session on the standard streams."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not disturb the frames
    Agent(sys.stdin.buffer, replies).serve()
