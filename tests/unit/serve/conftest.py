"""A server's application on a tiny network, and clients of it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette", reason='pip install "edgedenoise[serve]"')
pytest.importorskip("uvicorn", reason='pip install "edgedenoise[serve]"')
pytest.importorskip("httpx2", reason="pip install httpx2")

from starlette.testclient import TestClient

from edgedenoise.serve.app import Application
from edgedenoise.serve.models import Models
from edgedenoise.serve.options import ServeOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from edgedenoise.serve.lab import Judged

    MakeClient = Callable[..., TestClient]


@contextmanager
def opened(options: ServeOptions, pages: Path, received: list[Judged], used: list[str]) -> Iterator[TestClient]:
    with Models(options) as models:
        application = Application(
            options, models, pages=pages, on_result=received.append, on_token_used=lambda: used.append("used")
        )
        base = "http://127.0.0.1" if options.is_local else f"http://{options.allowed_hosts[0]}"
        with TestClient(application.asgi(), base_url=base, raise_server_exceptions=False) as client:
            client.application = application  # type: ignore[attr-defined]
            yield client


@pytest.fixture
def received() -> list[Judged]:
    """Return the results that the device lab has reported."""
    return []


@pytest.fixture
def used() -> list[str]:
    """Return one entry per token that was used up."""
    return []


@pytest.fixture
def make_client(tmp_path: Path, received: list[Judged], used: list[str]) -> Iterator[MakeClient]:
    """Return a function from options to a client."""
    with ExitStack() as stack:

        def make(pages: Path | None = None, **options: Any) -> TestClient:
            defaults = {"models": ("edge-tiny",), "results": tmp_path / "lab"}
            made = ServeOptions(**{**defaults, **options})
            return stack.enter_context(opened(made, pages or tmp_path / "no-pages", received, used))

        yield make


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    """Return a client of a server on the loopback interface."""
    return make_client()
