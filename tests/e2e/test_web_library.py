"""The browser library, as `make web` builds it, in Chromium: same pixels as Python, in a worker, on every device."""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import PIL.Image
import pytest

import edgedenoise
from edgedenoise.bundles.archive import pack

playwright = pytest.importorskip("playwright.sync_api", reason="to drive a browser, install: pip install playwright")

from browsers import chromium_or_skip, skip_without_web_files

if TYPE_CHECKING:
    from collections.abc import Iterator

CHROMIUM = chromium_or_skip()
ROOT = Path(__file__).resolve().parents[2]
LIBRARY = ROOT / "runtimes" / "web" / "dist" / "lib"
skip_without_web_files()

pytestmark = pytest.mark.slow
ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
WEBGPU = [
    "--enable-unsafe-webgpu",
    "--use-webgpu-adapter=swiftshader",
    "--enable-unsafe-swiftshader",
    "--use-angle=swiftshader",
    "--enable-features=Vulkan",
]


class Handler(SimpleHTTPRequestHandler):
    """Serves a folder, with the headers of the server."""

    extensions_map: ClassVar[dict[str, str]] = {
        **SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def end_headers(self) -> None:
        for name, value in self.server.headers.items():  # type: ignore[attr-defined]
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the output of the tests clean."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a page, the library, and bundles."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(LIBRARY, folder / "lib")
    (folder / "index.html").write_text("<!doctype html><title>test</title>", encoding="utf-8")
    for name in ("edge-tiny", "edge-level"):
        pack(ROOT / "edgedenoise" / "bundles" / "pretrained" / f"{name}.edge", folder / f"{name}.edge")
    pack(ROOT / "tests" / "fixtures" / "tiny.edge", folder / "tiny.edge")
    hostile = bytearray((folder / "tiny.edge").read_bytes())
    hostile[hostile.index(b"\x93NUMPY") + 200] ^= 1
    (folder / "hostile.edge").write_bytes(hostile)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *WEBGPU])
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, site: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """An empty page of a server, whose headers are the parameter; errors in it fail the test."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site)))
    server.headers = getattr(request, "param", {})  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    context = browser.new_context()
    opened = context.new_page()
    errors: list[str] = []
    opened.on("pageerror", lambda error: errors.append(str(error)))
    opened.goto(f"http://127.0.0.1:{server.server_port}/")
    yield opened
    context.close()
    server.shutdown()
    thread.join()
    server.server_close()
    assert not errors


def run(page: Any, bundle: str, body: str, options: dict[str, Any] | None = None, image: Any = None) -> Any:
    """Run the body of a function (denoiser, pixels) in the page, and return what it returns."""
    pixels = None
    if image is not None:
        rgba = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
        pixels = [base64.b64encode(rgba.tobytes()).decode(), image.shape[1], image.shape[0]]
    script = """async ([bundle, options, pixels, body]) => {
        const library = await import("./lib/edgedenoise.js");
        const image = pixels === null ? null : new ImageData(
            Uint8ClampedArray.from(atob(pixels[0]), (sign) => sign.charCodeAt(0)), pixels[1], pixels[2]);
        let denoiser;
        try {
            denoiser = await library.load(bundle, options);
            const call = new Function("denoiser", "image", `return (async () => { ${body} })()`);
            return JSON.stringify(await call(denoiser, image));
        } catch (error) {
            if (!(error instanceof library.EdgeDenoiseError)) throw error;
            return JSON.stringify({ error: error.name, code: error.code, message: error.message });
        } finally {
            await denoiser?.close();
        }
    }"""
    return json.loads(page.evaluate(script, [bundle, options or {}, pixels, body]))


DENOISE = """
    const progress = [];
    const onProgress = (one) => progress.push(one);
    const { image: made, ...rest } = await denoiser.denoise(image, { tile: 64, onProgress });
    const before = Array.from(image.data.slice(0, 8));
    return { ...rest, data: Array.from(made.data), device: denoiser.device, progress, before };
"""


@pytest.mark.parametrize(
    ("bundle", "precision"), [("edge-tiny", "int8"), ("edge-tiny", "fp32"), ("edge-level", "auto")]
)
def test_pixels_are_those_of_python(page: Any, bundle: str, precision: str, request: pytest.FixtureRequest) -> None:
    rng = np.random.default_rng(0)
    clean = np.linspace(40, 200, 100 * 130 * 3).reshape(100, 130, 3)
    image = np.clip(clean + rng.normal(0, 15, clean.shape), 0, 255).astype(np.uint8)
    with edgedenoise.load(bundle, precision=precision, runtime="onnxruntime", threads=1) as denoiser:
        wanted, variant = denoiser(image), denoiser.last_variant.name
    found = run(page, f"{bundle}.edge", DENOISE, {"device": "wasm", "precision": precision}, image)
    rgba = np.array(found["data"], np.uint8).reshape(100, 130, 4)
    difference = np.abs(rgba[..., :3].astype(int) - wanted)
    assert difference.max() <= (0 if precision == "int8" else 1)
    assert np.count_nonzero(difference) < difference.size / 1000
    assert (rgba[..., 3] == 255).all()
    assert found["variant"] == variant
    assert found["before"][:3] == image[0, 0].tolist(), "the input was changed"
    assert [one["done"] for one in found["progress"]] == list(range(7))
    isolated = "isolated" in request.node.callspec.id
    assert found["device"]["isolated"] is isolated
    assert (found["device"]["threads"] > 1) is (isolated and (os.cpu_count() or 1) > 1)
    assert found["device"]["reason"] == "WebAssembly was asked for"


def test_automatic_device_states_why(page: Any) -> None:
    """Chromium's only adapter here is a software one, which is slower than WebAssembly."""
    found = run(page, "edge-tiny.edge", "return [denoiser.device, denoiser.choice]")
    device, choice = found
    assert device["device"] == "wasm"
    assert device["reason"].startswith("WebGPU is not used: ")
    assert choice["variant"] == "onnx-int8-u8s7"


def test_selftest_and_bench(page: Any) -> None:
    script = """
        const report = await denoiser.selfTest();
        const bench = await denoiser.bench({ size: 32, rounds: 5, warmUp: 1, sustainedSeconds: 1 });
        return { report, bench };
    """
    found = run(page, "edge-tiny.edge", script, {"device": "wasm"})
    report, bench = found["report"], found["bench"]
    assert report["passed"] is True
    assert [one["variant"] for one in report["variants"]] == ["onnx-fp32", "onnx-int8-u8s7"]
    float_test, int8_test = report["variants"]
    assert float_test["psnrDb"] > 100
    assert int8_test["psnrDb"] > 39
    assert report["int8ToFloatDb"] == pytest.approx(int8_test["psnrDb"], abs=0.1)
    assert [len(one["timesMs"]) for one in bench["results"]] == [5, 5]
    assert all(one["p50Ms"] <= one["p90Ms"] <= one["p99Ms"] for one in bench["results"])
    assert bench["sustained"]["slowdown"] > 0


@pytest.mark.parametrize(
    ("bundle", "options", "error"),
    [
        ("hostile.edge", {}, "IntegrityError"),
        ("missing.edge", {}, "BundleError"),
        ("index.html", {}, "IntegrityError"),
        ("tiny.edge", {"precision": "fp16"}, "IncompatibleError"),
        ("tiny.edge", {"threads": 0}, "UsageError"),
        ("tiny.edge", {"runtime": {"folder": "elsewhere/"}}, "RuntimeUnavailableError"),
    ],
)
def test_refusals_are_errors_of_the_library(page: Any, bundle: str, options: dict[str, Any], error: str) -> None:
    found = run(page, bundle, "return {}", options)
    assert found["error"] == error, found
    assert found["code"] == getattr(edgedenoise.errors, error).exit_code


def test_an_image_can_be_cancelled(page: Any) -> None:
    script = """
        const controller = new AbortController();
        const image2 = new ImageData(400, 400);
        for (let i = 0; i < image2.data.length; i++) image2.data[i] = (i * 7919) % 251;
        let done = 0;
        const onProgress = (one) => { done = one.done; if (one.done === 1) controller.abort(); };
        const work = denoiser.denoise(image2, { tile: 64, signal: controller.signal, onProgress });
        const error = await work.then(() => "finished", (one) => one.name);
        const after = await denoiser.denoise(new ImageData(32, 32));
        return [error, done, after.image.width];
    """
    error, done, width = run(page, "edge-tiny.edge", script, {"device": "wasm"})
    assert error == "Interrupted"
    assert done < 49
    assert width == 32


def test_webgpu_computes_the_same(page: Any) -> None:
    """SwiftShader is a graphics card in software; a small image takes seconds."""
    rng = np.random.default_rng(1)
    image = rng.integers(60, 200, (32, 32, 3), dtype=np.uint8)
    with edgedenoise.load("edge-tiny", precision="fp32", runtime="onnxruntime") as denoiser:
        wanted = denoiser(image)
    options = {"device": "webgpu", "precision": "fp32", "selfTest": False}
    found = run(page, "edge-tiny.edge", DENOISE, options, image)
    if found.get("error") == "DeviceNotFoundError":
        pytest.skip(f"this Chromium has no WebGPU: {found['message']}")
    assert found["device"]["device"] == "webgpu"
    rgba = np.array(found["data"], np.uint8).reshape(32, 32, 4)
    assert np.abs(rgba[..., :3].astype(int) - wanted).max() <= 1


def test_the_page_of_the_guide_denoises_a_file(page: Any, site: Path, tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "guides" / "website.md").read_text(encoding="utf-8")
    html = guide.partition("```html\n")[2].partition("```")[0]
    (site / "guide.html").write_text(html.replace("./edgedenoise/", "./lib/"), encoding="utf-8")
    rng = np.random.default_rng(2)
    image = rng.integers(60, 200, (40, 56, 3), dtype=np.uint8)
    PIL.Image.fromarray(image).save(tmp_path / "noisy.png")
    page.goto(page.url + "guide.html")
    page.wait_for_function("document.querySelector('output').value === 'ready'")
    page.set_input_files("input", tmp_path / "noisy.png")
    page.wait_for_function("document.querySelector('output').value === 'finished'")
    script = "[...document.querySelector('canvas').getContext('2d').getImageData(0, 0, 56, 40).data]"
    shown = np.array(page.evaluate(script), np.uint8).reshape(40, 56, 4)[..., :3]
    with edgedenoise.load("edge-tiny", precision="int8", runtime="onnxruntime") as denoiser:
        np.testing.assert_array_equal(shown, denoiser(image))
