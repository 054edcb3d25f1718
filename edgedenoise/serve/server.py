"""Start a server, and end it cleanly."""

from __future__ import annotations

import logging
import socket
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import uvicorn

from edgedenoise.errors import OutputError, UsageError
from edgedenoise.serve.addresses import addresses, own_names, qr_code
from edgedenoise.serve.app import Application, write_pages
from edgedenoise.serve.certificate import own_certificate
from edgedenoise.serve.models import Models
from edgedenoise.shell import command_line
from edgedenoise.system_errors import reason_and_hint

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from edgedenoise.serve.lab import Judged
    from edgedenoise.serve.options import ServeOptions

_GRACE_S = 5
_MOST_CONNECTIONS = 128


def serve(
    options: ServeOptions,
    *,
    on_ready: Callable[[str], None],
    on_result: Callable[[Judged], None],
) -> None:
    """Serve bundles, the browser app, the API and the device lab until Ctrl-C or SIGTERM.

    Args:
        options: what is served, and to whom.
        on_ready: called with the text that shows the address: once the server accepts connections, and again with the
            next QR code when one has been used.
        on_result: called with each result of the device lab.

    Raises:
        BundleError: a bundle cannot be opened or is damaged.
        UsageError: the address cannot be listened on.
        OutputError: the folder of results cannot be written.
    """
    with ExitStack() as stack:
        models = stack.enter_context(Models(options))
        try:
            options.results.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason, hint = reason_and_hint(error, options.results)
            raise OutputError(f"{options.results} cannot be made: {reason}", hint=hint) from error
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgedenoise-app-"))
        listener = stack.enter_context(_listener(options))
        port = int(listener.getsockname()[1])
        application = Application(
            options,
            models,
            pages=write_pages(models, Path(folder) / "site"),
            on_result=on_result,
            on_token_used=lambda: on_ready(_invitation(options, port, application)),
        )
        certificate = own_certificate(own_names(options)) if options.tls else None
        config = uvicorn.Config(
            application.asgi(),
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            ssl_certfile=None if certificate is None else str(certificate.certificate),
            ssl_keyfile=None if certificate is None else str(certificate.key),
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_S,
            log_config=None,
            lifespan="off",
            ws="none",
        )
        on_ready(_invitation(options, port, application))
        _Server(config, application).run(sockets=[listener])


class _Server(uvicorn.Server):
    """A server that gives up what is running when it is asked to end."""

    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self._application = application

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End on a signal."""
        self._application.stop()
        super().handle_exit(sig, frame)


def _listener(options: ServeOptions) -> socket.socket:
    """Return a socket that listens on the address."""
    try:
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        both = options.host == "::"  # IPv4 as well
        return socket.create_server((options.host, options.port), family=family, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        other = command_line("serve", "--port", 0)
        raise UsageError(
            f"the server cannot listen on {options.host}:{options.port}: {error}",
            hint=f"Take a free port with: {other}",
        ) from error


def _invitation(options: ServeOptions, port: int, application: Application) -> str:
    """Return the addresses and the QR code, as text."""
    found = addresses(options, port)
    if application.sessions is None:
        return "\n".join(f"open {address}" for address in found)
    query = urlencode({"token": application.sessions.token})
    whole = [f"{address}?{query}" for address in found]
    return "\n".join([qr_code(whole[0]), *(f"open {address}" for address in whole), _ONCE])


_ONCE = "The code is for one device; the next code follows when it has been used."
