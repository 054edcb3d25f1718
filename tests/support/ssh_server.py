"""A real sshd on loopback with a host key and an authorized key of its own, and a proxy that can cut connections."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

INSTALL = "needs sshd and ssh; install them with: sudo apt-get install openssh-server openssh-client"


def sshd_program() -> str | None:
    """Return the path of sshd, which is not on the PATH of every user; None where it or ssh is missing."""
    found = shutil.which("sshd", path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]))
    return found if found and shutil.which("ssh") and shutil.which("ssh-keygen") else None


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


class SshServer:
    """A device: sessions have `temporary` as their folder of temporary files."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.temporary = folder / "device-tmp"
        self.temporary.mkdir()
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(folder / "user.pub", folder / "authorized")
        self._write_config()
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd of Debian refuses to start without it
        self.log = folder / "sshd.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
        self._wait()

    def _write_config(self) -> None:
        lines = [
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.folder / 'host'}",
            f"AuthorizedKeysFile {self.folder / 'authorized'}",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "PidFile none",
            f"SetEnv TMPDIR={self.temporary}",
        ]
        (self.folder / "sshd_config").write_text("\n".join(lines) + "\n")
        key = (self.folder / "host.pub").read_text()
        (self.folder / "known_hosts").write_text(f"* {key}")

    def _wait(self) -> None:
        for _ in range(100):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            if self._process.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"sshd did not start: {self.log.read_text()}")

    def command(self, *, user_key: str = "user", known_hosts: str = "known_hosts") -> str:
        """Return the ssh command for EDGEDENOISE_SSH_COMMAND, which reads no configuration of the user."""
        files = f"-i {self.folder / user_key} -o UserKnownHostsFile={self.folder / known_hosts}"
        return f"ssh -F none {files} -o GlobalKnownHostsFile=none -o IdentitiesOnly=yes -o LogLevel=ERROR"

    def left_behind(self, *, wait_s: float = 0.0) -> list[str]:
        """Return what sessions have left, after waiting until it is nothing."""
        deadline = time.monotonic() + wait_s
        while (found := sorted(path.name for path in self.temporary.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.1)
        return found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


class Proxy:
    """A TCP proxy in front of a port, whose connections can be cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._sockets: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close all connections, as a network that goes down."""
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
