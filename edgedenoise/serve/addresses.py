"""Addresses under which other devices reach this machine, and QR codes of them."""

from __future__ import annotations

import io
import ipaddress
import socket
from typing import TYPE_CHECKING

import segno

if TYPE_CHECKING:
    from edgedenoise.serve.options import ServeOptions

# The address of the documentation network: connecting a datagram socket to it sends nothing, but chooses the interface.
_ELSEWHERE = ("192.0.2.1", 9)


def lan_addresses() -> list[str]:
    """Return the IPv4 addresses of this machine that others may reach, the one of the default route first."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ELSEWHERE)
            found.append(str(probe.getsockname()[0]))
        except OSError:  # there is no network
            pass
    try:
        named = socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)
    except OSError:
        named = []
    found += [str(address[4][0]) for address in named]
    return [one for one in dict.fromkeys(found) if not ipaddress.ip_address(one).is_loopback]


def own_names(options: ServeOptions) -> set[str]:
    """Return the names and addresses under which the server answers, in lower case."""
    names = {"localhost", "127.0.0.1", "::1", *(name.lower() for name in options.allowed_hosts)}
    if options.is_local:
        return names
    names |= set(lan_addresses())
    host = socket.gethostname().lower()
    if host.isascii() and host:
        names |= {host, f"{host.partition('.')[0]}.local"}
    return names if _is_any(options.host) else names | {options.host.lower()}


def addresses(options: ServeOptions, port: int) -> list[str]:
    """Return the addresses to open in a browser, the best one for a phone first."""
    scheme = "https" if options.tls else "http"
    if options.is_local:
        hosts = [options.host]
    elif _is_any(options.host):
        hosts = lan_addresses() or ["127.0.0.1"]
    else:
        hosts = [options.host]
    return [f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/" for host in hosts]


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def qr_code(address: str) -> str:
    """Return the QR code of an address as text of half blocks, for a terminal."""
    text = io.StringIO()
    segno.make(address, error="m", micro=False).terminal(text, compact=True)
    return text.getvalue()
