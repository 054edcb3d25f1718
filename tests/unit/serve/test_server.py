"""A real server: its address, HTTPS, events, and how it ends."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import httpx2 as httpx
import msgspec
import pytest
from serving import phone, png, running

from edgedenoise.serve.certificate import own_certificate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as (server, address):
        assert httpx.get(f"{address}healthz").json()["status"] == "ok"
        server.send_signal(number)
        out, err = server.communicate(timeout=30)
    assert (server.returncode, out.strip(), err.strip()) == (0, "stopped", "")


def test_a_signal_ends_open_requests(tmp_path: Path) -> None:
    with running(tmp_path) as (server, address), httpx.stream("GET", f"{address}api/events", timeout=30) as events:
        next(events.iter_lines())
        start = time.monotonic()
        server.send_signal(signal.SIGINT)
        out, err = server.communicate(timeout=30)
    assert (server.returncode, out.strip(), err.strip()) == (0, "stopped", "")
    assert time.monotonic() - start < 5


def test_a_client_that_leaves_while_it_waits_gives_its_place_back(tmp_path: Path) -> None:
    with running(tmp_path, "--max-queue", "1") as (_, address):
        port = int(re.search(r":(\d+)/", address)[1])  # type: ignore[index]
        for _ in range(4):
            with socket.create_connection(("127.0.0.1", port)) as slow:
                slow.sendall(b"POST /denoise HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n\r\nabc")
                time.sleep(0.3)
                assert httpx.post(f"{address}denoise", content=png(), timeout=60).status_code == 200
        for _ in range(50):
            if "edgedenoise_queue 0.0" in httpx.get(f"{address}metrics").text:
                break
            time.sleep(0.1)
        else:
            pytest.fail("places are still taken")


def test_results_arrive_in_the_terminal_and_as_events(tmp_path: Path) -> None:
    with running(tmp_path) as (server, address):
        events: list[str] = []
        ready = threading.Event()

        def listen() -> None:
            with httpx.stream("GET", f"{address}api/events", timeout=30) as stream:
                for line in stream.iter_lines():
                    ready.set()
                    if line.startswith("data: "):
                        events.append(line)
                        return

        listener = threading.Thread(target=listen)
        listener.start()
        assert ready.wait(30)
        body = msgspec.json.encode({"schema": "edgedenoise-result/1", "runs": [phone()]})
        assert httpx.post(f"{address}api/results", content=body).status_code == 201
        listener.join(30)
        assert '"device":"Pixel 7"' in events[0]
        server.send_signal(signal.SIGINT)
        out, _ = server.communicate(timeout=30)
    assert "passed  Pixel 7  edge-tiny" in out
    assert "stopped: 1 results in lab" in out


def test_https_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    with running(tmp_path, "--tls", "--host", "0.0.0.0", "--allow-host", "127.0.0.1") as (_, address):  # noqa: S104
        local = re.sub(r"//[^:/]+", "//127.0.0.1", address)
        certificate = tmp_path / "data" / "edgedenoise" / "serve" / "certificate.pem"
        with httpx.Client(verify=ssl.create_default_context(cafile=certificate)) as client:
            first = client.get(local)  # the token, then the page
            assert first.status_code == 303
            assert "secure" in first.headers["set-cookie"].lower()
            assert client.post(local.split("?")[0] + "denoise", content=png()).status_code == 200


def test_the_key_is_private_and_kept(tmp_path: Path) -> None:
    first = own_certificate({"localhost", "127.0.0.1"}, tmp_path)
    content = first.certificate.read_bytes(), first.key.read_bytes()
    assert first.key.stat().st_mode & 0o077 == 0
    second = own_certificate({"localhost"}, tmp_path)
    assert (second.certificate.read_bytes(), second.key.read_bytes()) == content
    own_certificate({"localhost", "192.168.7.7"}, tmp_path)
    assert first.certificate.read_bytes() != content[0]
    first.key.write_text("damaged")
    own_certificate({"localhost"}, tmp_path)
    assert first.key.read_text().startswith("-----BEGIN PRIVATE KEY")


def test_a_port_that_is_taken_is_explained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "edgedenoise", "serve", "edge-tiny", "--port", port, "--results", "lab"],
            cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert done.returncode == 2
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert "--port 0" in done.stderr
