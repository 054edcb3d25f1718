"""The HTTP API: denoise, bundles, models, metrics."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from serving import png

import edgedenoise
from edgedenoise.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import MakeClient
    from starlette.testclient import TestClient


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_pixels_are_those_of_the_command(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "noisy.png").write_bytes(png())
    edgedenoise.denoise_files([tmp_path / "noisy.png"], tmp_path / "clean.png", "edge-tiny")
    answer = client.post("/denoise", content=png())
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-edgedenoise-variant"].startswith("onnx-")
    assert np.array_equal(pixels(answer.content), pixels((tmp_path / "clean.png").read_bytes()))


def test_strength_and_format_are_those_that_were_asked_for(client: TestClient) -> None:
    unchanged = client.post("/denoise?strength=0", content=png())
    assert np.array_equal(pixels(unchanged.content), pixels(png()))
    jpeg = client.post("/denoise?format=jpeg", content=png())
    assert (jpeg.headers["content-type"], jpeg.content[:2]) == ("image/jpeg", b"\xff\xd8")
    float_ = client.post("/denoise?precision=fp32", content=png())
    assert float_.headers["x-edgedenoise-variant"] == "onnx-fp32"


@pytest.mark.parametrize(
    ("query", "status", "error"),
    [
        ("model=nothing", 404, "BundleError"),
        ("strength=9", 400, "UsageError"),
        ("strength=much", 400, "UsageError"),
        ("strength=nan", 400, "UsageError"),
        ("strength=inf", 400, "UsageError"),
        ("format=docx", 400, "UsageError"),
        ("precision=half", 400, "UsageError"),
        ("precision=fp16", 409, "IncompatibleError"),
    ],
)
def test_wrong_parameters_are_explained(client: TestClient, query: str, status: int, error: str) -> None:
    answer = client.post(f"/denoise?{query}", content=png())
    assert (answer.status_code, answer.json()["error"]) == (status, error)
    assert set(answer.json()) == {"error", "message", "hint"}


@pytest.mark.parametrize("data", [b"", b"text", png()[:60], b"\x89PNG\r\n\x1a\n" + bytes(100)])
def test_data_that_are_no_image_are_explained(client: TestClient, data: bytes) -> None:
    answer = client.post("/denoise", content=data)
    assert (answer.status_code, answer.json()["error"]) in [(422, "ImageError"), (422, "DamagedImageError")]


def test_large_requests_are_refused(make_client: MakeClient) -> None:
    client = make_client(max_upload=1000, max_pixels=100)
    too_long = client.post("/denoise", content=bytes(1001))
    assert (too_long.status_code, too_long.json()["error"]) == (413, "TooLarge")

    def pieces():
        for _ in range(100):
            yield bytes(100)

    assert client.post("/denoise", content=pieces()).status_code == 413
    stream = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(stream, "PNG", compress_level=9)
    wide = make_client(max_pixels=1_000_000).post("/denoise", content=stream.getvalue())
    assert (wide.status_code, wide.json()["error"]) == (422, "ImageError")


def test_more_images_than_places_are_refused(make_client: MakeClient) -> None:
    client = make_client(max_queue=1)
    answers: list[int] = []
    retry: list[str] = []
    image = png(700, 700)

    def ask() -> None:
        answer = client.post("/denoise", content=image)
        answers.append(answer.status_code)
        retry.extend([answer.headers["retry-after"]] if answer.status_code == 503 else [])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) == {200, 503}
    assert 1 <= answers.count(200) <= 7
    assert retry[0].isdecimal()
    assert client.post("/denoise", content=png()).status_code == 200  # places are free again


def test_bundles_are_the_archives(client: TestClient, tmp_path: Path) -> None:
    answer = client.get("/bundles/edge-tiny.edge")
    (tmp_path / "b.edge").write_bytes(answer.content)
    assert zipfile.is_zipfile(tmp_path / "b.edge")
    with edgedenoise.load(tmp_path / "b.edge") as denoiser:
        assert denoiser.bundle.manifest.name == "edge-tiny"
    again = client.get("/bundles/edge-tiny.edge", headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/bundles/other.edge").status_code == 404


def test_models_are_listed(make_client: MakeClient) -> None:
    models = make_client(models=("edge-tiny", "edge")).get("/api/models").json()
    assert [model["name"] for model in models] == ["edge-tiny", "edge"]
    assert models[0]["digest"] == edgedenoise.Bundle.open("edge-tiny").manifest.digest


def test_two_bundles_need_two_names(make_client: MakeClient) -> None:
    with pytest.raises(UsageError, match="two bundles"):
        make_client(models=("edge-tiny", "edge-tiny"))


def test_metrics_count_images(client: TestClient) -> None:
    client.post("/denoise", content=png())
    client.post("/denoise", content=b"")
    text = client.get("/metrics").text
    assert 'edgedenoise_requests_total{status="200"} 1.0' in text
    assert 'edgedenoise_requests_total{status="422"} 1.0' in text
    assert "edgedenoise_queue 0.0" in text


def test_a_page_says_how_to_get_the_app(client: TestClient) -> None:
    for path in ("/", "/test"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "make web" in answer.text


def test_denoisers_that_are_not_used_are_closed(client: TestClient) -> None:
    from edgedenoise.serve.models import MAX_OPEN

    for step in range(2 * MAX_OPEN):
        answer = client.post(f"/denoise?strength={1 - step / 100}", content=png())
        assert answer.status_code == 200
    models = client.application._models  # type: ignore[attr-defined]
    assert len(models._opened) == MAX_OPEN


def test_an_unknown_page_is_an_error_in_json(client: TestClient) -> None:
    answer = client.get("/nowhere")
    assert (answer.status_code, answer.json()["error"]) == (404, "HttpError")
    assert client.get("/denoise").status_code == 405


def test_times_are_told(client: TestClient) -> None:
    start = time.perf_counter()
    answer = client.post("/denoise", content=png())
    longest = 1000 * (time.perf_counter() - start)
    stages = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
    assert list(stages) == ["read", "denoise", "write"]
    assert 0 < sum(map(float, stages.values())) <= longest


def test_the_pixels_of_all_frames_count(make_client: MakeClient) -> None:
    stream = io.BytesIO()
    pages = [Image.new("RGB", (100, 100), (number, 0, 0)) for number in range(5)]
    pages[0].save(stream, "TIFF", save_all=True, append_images=pages[1:])
    refused = make_client(max_pixels=49_999).post("/denoise", content=stream.getvalue())
    assert (refused.status_code, refused.json()["error"]) == (422, "ImageError")
    assert "5 frames" in refused.json()["message"]
    assert make_client(max_pixels=50_000).post("/denoise", content=stream.getvalue()).status_code == 200


def test_requests_that_cannot_be_opened_push_nothing_out(client: TestClient) -> None:
    client.post("/denoise", content=png())
    models = client.application._models  # type: ignore[attr-defined]
    kept = dict(models._opened)
    for _ in range(10):
        assert client.post("/denoise?precision=fp16", content=png()).status_code == 409
    assert dict(models._opened) == kept
