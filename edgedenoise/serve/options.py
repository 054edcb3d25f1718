"""What a server serves, to whom, and how much of it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgedenoise.bundles.manifest import Limits
from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from edgedenoise.bundles.manifest import Precision

DEFAULT_PORT = 8765
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:]+")
_NO_LIMITS = Limits()
MAX_UPLOAD_BYTES = 64 << 20
MAX_PIXELS = 50_000_000
"""Largest image that the API accepts; phones take images of 12 to 50 megapixels."""


@dataclass(frozen=True)
class ServeOptions:
    """Options of `serve`.

    Raises:
        UsageError: a value is not accepted.
    """

    models: tuple[Path | str, ...] = (DEFAULT,)
    """Bundles or names of shipped bundles; the first is the default."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all of this machine."""
    port: int = DEFAULT_PORT
    """0 for any free port."""
    results: Path = Path("device-lab")
    """Folder for the result files of the device lab."""
    limits: Limits = _NO_LIMITS
    """Limits that a device has to keep; those of the bundle complete them."""
    max_upload: int = MAX_UPLOAD_BYTES
    """Bytes of the largest request."""
    max_pixels: int = MAX_PIXELS
    """Pixels of the largest image."""
    max_queue: int = 8
    """Requests that may wait; more are refused with 503."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names under which browsers reach this machine."""
    tls: bool = False
    """Serve HTTPS with a certificate that this machine signs itself."""
    precision: Precision | Literal["auto"] = "auto"
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        _check_range("port", self.port, 0, 65535)
        _check_range("max_queue", self.max_queue, 1, 1000)
        _check_range("max_upload", self.max_upload, 1, 1 << 32)
        _check_range("max_pixels", self.max_pixels, 1, 1 << 32)
        for name in self.allowed_hosts:
            if not _HOST.fullmatch(name):
                raise UsageError(f"--allow-host is not accepted: expected a host name without a port, got {name!r}")
        if not self.models:
            raise UsageError("there is nothing to serve: expected at least one bundle, got none")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} is not accepted: expected {least} to {most}, got {value}")


def parse_limits(text: str | None) -> Limits:
    """Return limits that are written like `max-ms=400,max-drop=0.1`.

    Args:
        text: pairs of a name and a number; None for no limits. The names are `max-ms`, `max-drop` (dB), `min-psnr`
            (dB) and `max-levels` (8-bit levels), as the options of `edgedenoise test`.

    Raises:
        UsageError: a name is not known, or a value is no number above 0.

    Example:
        >>> parse_limits("max-ms=400,max-drop=0.1").max_ms
        400.0
    """
    values: dict[str, float] = {}
    for pair in (text or "").split(","):
        if not pair.strip():
            continue
        name, equals, number = (part.strip() for part in pair.partition("="))
        if name not in _LIMITS or not equals:
            raise UsageError(f"the limits are not accepted: expected {_EXPECTED}, got {pair.strip()!r}")
        try:
            value = float(number)
        except ValueError:
            value = 0.0
        if not 0 < value < float("inf"):
            raise UsageError(f"the limit {name} is not accepted: expected a number above 0, got {number!r}")
        values[_LIMITS[name]] = value
    return Limits(**values)


_LIMITS = {"max-ms": "max_ms", "max-drop": "max_drop_db", "min-psnr": "min_psnr_db", "max-levels": "max_error_lsb"}
_EXPECTED = " or ".join(f"{name}=NUMBER" for name in _LIMITS)
