"""Who may use a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from edgedenoise.serve.access import COOKIE, HEADERS, KEY_VARIABLE, host_name

if TYPE_CHECKING:
    from conftest import MakeClient
    from starlette.testclient import TestClient

NETWORK = {"host": "0.0.0.0", "allowed_hosts": ("laptop.local",)}  # noqa: S104


@pytest.mark.parametrize(
    ("header", "name"),
    [("laptop.local:80", "laptop.local"), ("[::1]:8765", "::1"), ("", ""), ("[broken", ""), ("A.B", "a.b")],
)
def test_the_name_of_a_host_header(header: str, name: str) -> None:
    assert host_name(header) == name


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8765", ""])
def test_requests_under_a_foreign_name_are_refused(client: TestClient, host: str) -> None:
    """A website that points its name at this machine is stopped (DNS rebinding)."""
    answer = client.get("/api/models", headers={"host": host})
    assert answer.status_code == 421
    assert "--allow-host" in answer.json()["hint"]


def test_posts_of_other_websites_are_refused(client: TestClient) -> None:
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "http://[::1"):
        answer = client.post("/api/results", content=b"{}", headers={"origin": origin})
        assert answer.status_code == 403, origin
    own = client.post("/api/results", content=b"{}", headers={"origin": "http://127.0.0.1"})
    assert own.status_code == 422


def test_reads_of_other_websites_are_refused(client: TestClient) -> None:
    assert client.get("/api/results", headers={"origin": "http://evil.example"}).status_code == 403
    image = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}
    assert client.get("/api/events", headers=image).status_code == 403
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert client.get("/", headers=link).status_code == 200


def test_a_further_name_needs_a_token_on_the_loopback_interface_too(make_client: MakeClient) -> None:
    """A name for a tunnel or a proxy opens the server to the world."""
    tunnel = make_client(allowed_hosts=("my.tunnel.example",))
    assert tunnel.get("/api/models", headers={"host": "my.tunnel.example"}).status_code == 401


def test_the_redirect_stays_on_the_site(make_client: MakeClient) -> None:
    network = make_client(**NETWORK)
    token = network.application.sessions.token  # type: ignore[attr-defined]
    answer = network.get(f"http://laptop.local//evil.example/?token={token}", follow_redirects=False)
    assert answer.headers["location"] == "/evil.example/"


def test_every_answer_has_the_headers(client: TestClient, make_client: MakeClient) -> None:
    network = make_client(**NETWORK)
    for answer in (client.get("/"), client.get("/nowhere"), network.get("/"), client.get("/", headers={"host": "x"})):
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS
        assert "access-control-allow-origin" not in answer.headers
    assert "connect-src 'self'" in HEADERS["content-security-policy"]


def test_the_network_needs_a_token(make_client: MakeClient) -> None:
    network = make_client(**NETWORK)
    for path in ("/", "/test", "/api/models", "/bundles/edge-tiny.edge", "/metrics", "/openapi.json"):
        assert network.get(path).status_code == 401, path
    assert network.post("/denoise", content=b"").status_code == 401
    assert network.get("/healthz").status_code == 200


def test_a_token_is_good_for_one_browser(make_client: MakeClient, used: list[str]) -> None:
    network = make_client(**NETWORK)
    token = network.application.sessions.token  # type: ignore[attr-defined]
    first = network.get("/", params={"token": token}, follow_redirects=False)
    assert (first.status_code, first.headers["location"]) == (303, "/")
    cookie = first.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert used == ["used"]
    assert network.get("/api/models").status_code == 200  # the client keeps the cookie
    network.cookies.clear()
    assert network.get("/", params={"token": token}).status_code == 401
    assert network.get("/api/models", headers={"cookie": f"{COOKIE}=guess"}).status_code == 401
    second = network.application.sessions.token  # type: ignore[attr-defined]
    assert second != token
    assert network.get("/api/models", params={"token": second}).status_code == 200


def test_a_token_does_not_allow_a_post(make_client: MakeClient) -> None:
    network = make_client(**NETWORK)
    token = network.application.sessions.token  # type: ignore[attr-defined]
    assert network.post("/denoise", params={"token": token}, content=b"").status_code == 401
    assert network.application.sessions.token == token  # type: ignore[attr-defined]


def test_programs_use_the_key(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "secret")
    network = make_client(**NETWORK)
    assert network.get("/api/models", headers={"authorization": "Bearer secret"}).status_code == 200
    for wrong in ("Bearer wrong", "Basic secret", "secret", "Bearer "):
        assert network.get("/api/models", headers={"authorization": wrong}).status_code == 401, wrong


def test_an_empty_key_opens_nothing(make_client: MakeClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "")
    assert make_client(**NETWORK).get("/api/models", headers={"authorization": "Bearer "}).status_code == 401


def test_no_file_outside_the_pages_is_served(make_client: MakeClient, tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    pages = folder / "pages"
    (pages / "assets").mkdir(parents=True)
    (pages / "index.html").write_text("app")
    (pages / "assets" / "a.js").write_text("1")
    (folder / "secret.txt").write_text("secret")
    (pages / "link.txt").symlink_to(folder / "secret.txt")
    client = make_client(pages=pages)
    assert client.get("/").text == "app"
    assert client.get("/assets/a.js").text == "1"
    for path in ("/assets/", "/../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt", "/link.txt", "//etc/passwd"):
        answer = client.get(path)
        assert answer.status_code in (404, 307), path
        assert "secret" not in answer.text
