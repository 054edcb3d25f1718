"""Addresses of devices, and the ssh command that reaches one."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from urllib.parse import urlsplit

from edgedenoise.errors import UsageError
from edgedenoise.shell import quoted

SSH_COMMAND = "EDGEDENOISE_SSH_COMMAND"
"""Environment variable with the ssh command and its options, for example `ssh -F lab.config`; default: `ssh`."""
CONNECT_S = 10
ALIVE_S = 5
"""Interval in which the connection is checked; it is given up after three checks without an answer."""
_NAME = re.compile(r"[A-Za-z0-9_.:\[\]%-]+")


@dataclass(frozen=True)
class Host:
    """A device that is reached over SSH."""

    name: str
    """Host name, address, or an alias of the ssh configuration."""
    user: str = ""
    """Empty for the one of the ssh configuration."""
    port: int | None = None
    """None for the one of the ssh configuration."""

    @classmethod
    def parse(cls, address: str) -> Host:
        """Read an address such as `ssh://pi@192.168.1.20:2222`; user and port may be left out.

        Raises:
            UsageError: it is no such address.

        Example:
            >>> Host.parse("ssh://pi@board:2222")
            Host(name='board', user='pi', port=2222)
        """
        try:
            parts = urlsplit(address)
            name, user, port = parts.hostname or "", parts.username or "", parts.port
        except ValueError:
            raise _refused(address) from None
        plain = all(not word or (_NAME.fullmatch(word) and not word.startswith("-")) for word in (name, user))
        rest = parts.path.strip("/") or parts.query or parts.fragment or parts.password
        if parts.scheme != "ssh" or not name or not plain or rest:
            raise _refused(address)
        return cls(_case_of(address, name), user, port)

    @property
    def label(self) -> str:
        """Name for people and for result files: the address without `ssh://`."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.user}@{self.name}{port}" if self.user else f"{self.name}{port}"

    @property
    def address(self) -> str:
        """The address as `--on` takes it."""
        return f"ssh://{self.label}"

    def ssh_words(self) -> list[str]:
        """Return the words of the ssh command, up to the host; the command for the device follows."""
        options = {
            "BatchMode": "yes",  # never asks for a password or a passphrase
            "ConnectTimeout": CONNECT_S,
            "ServerAliveInterval": ALIVE_S,
            "ServerAliveCountMax": 3,
        }
        words = [*self.program(), "-T", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
        return [*words, *self._target()]

    def hint(self, *command: str) -> str:
        """Return the command line that runs a command on the device by hand."""
        return f"{quoted(*self.program(), *self._target())} {quoted(*command)}"

    @staticmethod
    def program() -> list[str]:
        """Return the ssh command with the options of the user."""
        return shlex.split(os.environ.get(SSH_COMMAND, "")) or ["ssh"]

    def _target(self) -> list[str]:
        port = [] if self.port is None else ["-p", str(self.port)]
        return [*port, f"{self.user}@{self.name}" if self.user else self.name]


def _case_of(address: str, name: str) -> str:
    """Return a host name as it was written: aliases of the ssh configuration distinguish case, URLs do not."""
    found = re.search(re.escape(name), address.rpartition("@")[2], re.IGNORECASE)
    return found[0] if found else name


def _refused(address: str) -> UsageError:
    return UsageError(
        f"--on is not accepted: expected ssh://user@host:port, got {address!r}",
        hint="User and port may be left out: --on ssh://raspberrypi.local. Passwords are not accepted; set up a key"
        " with: ssh-copy-id",
    )
