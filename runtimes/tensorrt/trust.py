"""Which engines may run code on the host: those that this user built on this machine.

A version-compatible engine contains a part of TensorRT that runs as ordinary code of the process. A bundle cannot
vouch for its own engine. Building one therefore writes a code (HMAC) of its bytes into its record, made with a key that
lies in the user's data folder and is in no bundle.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from typing import TYPE_CHECKING

import platformdirs

from edgedenoise.atomic import write_bytes
from edgedenoise.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)
_KEY_BYTES = 32
_PURPOSE = b"edgedenoise tensorrt engine\n"


def host_code_mac(engine: bytes) -> str:
    """Return the code of an engine that this machine has built, for its record; empty where no key can be kept."""
    key = _key()
    if key is None:
        try:
            write_bytes(_key_file(), secrets.token_bytes(_KEY_BYTES), mode=0o600)
        except OutputError as error:
            _log.warning("the engine will need --trust-engine: no key can be kept: %s", error.message)
            return ""
        key = _key()  # as it is on the disk: another process may have written one at the same time
    return "" if key is None else _mac(key, engine)


def is_built_here(engine: bytes, mac: str) -> bool:
    """Return whether a record's code shows that this user built the engine on this machine."""
    key = _key()
    return key is not None and bool(mac) and hmac.compare_digest(_mac(key, engine).encode(), mac.encode())


def _mac(key: bytes, engine: bytes) -> str:
    return hmac.new(key, _PURPOSE + hashlib.sha256(engine).digest(), hashlib.sha256).hexdigest()


def _key_file() -> Path:
    return platformdirs.user_data_path("edgedenoise") / "engine-key"


def _key() -> bytes | None:
    """Return the key; None where there is none, or where others could have written or read it."""
    try:
        with _key_file().open("rb") as stream:
            status = os.fstat(stream.fileno())
            key = stream.read(_KEY_BYTES + 1)
    except OSError:
        return None
    if os.name == "posix" and (status.st_uid != os.geteuid() or status.st_mode & 0o077):
        _log.warning("%s is not used: expected a file that only you can read and write", _key_file())
        return None
    return key if len(key) == _KEY_BYTES else None
