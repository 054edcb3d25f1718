"""A browser drives the web app: pixels and metadata as Python writes them, offline, on a phone, with a camera."""

from __future__ import annotations

import http.server
import io
import json
import struct
import threading
import zipfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image as PILImage
from PIL import ImageCms, PngImagePlugin

playwright = pytest.importorskip("playwright.sync_api", reason="to drive a browser, install: pip install playwright")

from browsers import chromium_or_skip, skip_without_web_files

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.pretrained import shipped
from edgedenoise.evaluation.result_files import read_results
from edgedenoise.exporting.web.single import write_single_file
from edgedenoise.exporting.web.site import write_site
from edgedenoise.imaging.files import read_image, write_image
from edgedenoise.imaging.metadata import jpeg, png

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from edgedenoise.imaging.image import Image

CHROMIUM = chromium_or_skip()
skip_without_web_files()

pytestmark = pytest.mark.slow

PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
DESK = {"viewport": {"width": 1280, "height": 800}}
PATIENCE_MS = 180_000
INDEX_ENTRIES = 50
"""Offset of the entries in the index of further images that the tests write."""


class Host:
    """A host of static files without any special headers, as most are; it can be switched off."""

    def __init__(self, folder: Path) -> None:
        self.results: list[dict[str, Any]] = []
        self.takes_results = False
        host = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not host.takes_results or self.path != "/api/results":
                    self.send_error(404)
                    return
                host.results.append(json.loads(body))
                failed = {"name": "max_ms", "variant": "onnx-fp32", "status": "failed", "message": "too slow"}
                answer = [{"passed": False, "outcomes": [failed]}]
                self.send_response(201)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(answer).encode())

            def log_message(self, *_: object) -> None:
                """Write nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class App:
    """The app in a browser, and what it must not do."""

    page: Any
    url: str
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def choose(self, *files: Path) -> None:
        self.page.set_input_files("#files", [str(file) for file in files])

    def finished(self) -> None:
        """Wait until the current image is denoised."""
        button = self.page.locator("#primary")
        done = button.filter(has_text="Save").or_(button.filter(has_text="Try again"))
        done.wait_for(timeout=PATIENCE_MS)
        assert button.inner_text() == "Save", self.page.inner_text("#panel")

    def saved(self, target: Path, button: str = "#primary") -> Path:
        with self.page.expect_download() as download:
            self.page.click(button)
        download.value.save_as(target / download.value.suggested_filename)
        return Path(target / download.value.suggested_filename)

    def row(self) -> list[list[int]]:
        """Return the middle row of what is shown, (red, green, blue) of each screen pixel."""
        return self.page.evaluate("""() => {
            const canvas = document.querySelector('#canvas');
            const y = Math.floor(canvas.height / 2);
            const copy = new OffscreenCanvas(canvas.width, 1).getContext('2d', {willReadFrequently: true});
            copy.drawImage(canvas, 0, -y);
            const data = copy.getImageData(0, 0, canvas.width, 1).data;
            return Array.from({length: canvas.width}, (_, x) => [...data.slice(4 * x, 4 * x + 3)]);
        }""")

    def settled(self) -> None:
        self.page.wait_for_timeout(250)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(shipped("edge-tiny"))


@pytest.fixture(scope="module")
def site(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_site([bundle], tmp_path_factory.mktemp("web") / "site")


@pytest.fixture(scope="module")
def host(site: Path) -> Iterator[Host]:
    running = Host(site)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        yield started.chromium


@pytest.fixture(scope="module")
def browser(chromium: Any) -> Iterator[Any]:
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    opened = chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", *camera])
    yield opened
    opened.close()


@pytest.fixture
def open_app(browser: Any) -> Iterator[Callable[..., App]]:
    """Open pages; each is checked at the end: no message, and nothing asked of or sent to another origin."""
    apps: list[App] = []

    def opened(url: str, *, in_browser: Any = browser, ready: bool = True, **options: Any) -> App:
        context = in_browser.new_context(**{**PHONE, **options})
        app = App(context.new_page(), url)
        app.page.set_default_timeout(PATIENCE_MS)
        app.page.on("console", lambda message: app.messages.append(message.text))
        app.page.on("pageerror", lambda error: app.messages.append(str(error)))
        app.page.on("request", lambda asked: app.requests.append(f"{asked.method} {asked.url}"))
        app.page.goto(url)
        if ready:
            if url.startswith("http") and not url.endswith("test.html"):
                app.page.wait_for_selector("#offline:not([hidden])")  # until then it may be loaded once more
            app.page.wait_for_selector("html[data-ready]")
        apps.append(app)
        return app

    yield opened
    for app in apps:
        assert app.messages == []
        allowed = (f"GET {app.url}", "GET data:", "GET blob:", f"POST {app.url.replace('test.html', '')}api/results")
        base = (f"GET {app.url.rpartition('/')[0]}/",)
        assert [asked for asked in app.requests if not asked.startswith(allowed + base)] == []
        app.page.context.close()


@pytest.fixture(scope="module")
def denoiser() -> Iterator[edgedenoise.Denoiser]:
    with edgedenoise.load("edge-tiny") as opened:
        yield opened


def noisy(height: int, width: int, seed: int = 1) -> np.ndarray:
    """Return an image with more noise than the limit below which INT8 is not used."""
    rows, columns = np.mgrid[0:height, 0:width]
    clean = 40 + 150 * columns / width + 20 * np.sin(rows / 9)
    draws = np.random.default_rng(seed).normal(0, 16, (height, width, 3))
    return np.clip(clean[..., None] * [1, 0.9, 0.8] + draws, 0, 255).astype(np.uint8)


def assert_equal(ours: Image, theirs: Image) -> None:
    """Check that pixels are those of Python, but for values halfway between two levels.

    The last float operations of a browser and of Python differ by 1e-7, which decides about such a value. In 16 bits,
    where float runs, there are more of them.
    """
    assert (ours.pixels.dtype, ours.pixels.shape) == (theirs.pixels.dtype, theirs.pixels.shape)
    distance = np.abs(ours.pixels.astype(np.int64) - theirs.pixels.astype(np.int64))
    assert distance.max() <= 1
    assert (distance > 0).mean() <= (1 / 2000 if ours.bits == 8 else 1 / 100)


def exif(orientation: int) -> bytes:
    block = PILImage.Exif()
    block[274], block[271], block[282], block[283], block[296] = orientation, "A camera", 240.0, 240.0, 2
    return block.tobytes()


PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description dc:title="a title"/></rdf:RDF></x:xmpmeta>'


def png_files(folder: Path) -> list[Path]:
    """Write PNG files of all kinds of samples."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "a title")
    texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    colour = noisy(70, 90)
    everything = {"icc_profile": PROFILE, "exif": exif(6), "pnginfo": texts, "dpi": (300, 300)}
    PILImage.fromarray(colour).save(folder / "colour.png", **everything)
    alpha = np.full((70, 90, 1), 255, np.uint8)
    alpha[20:40, 30:50], alpha[50:, :20] = 0, 90
    PILImage.fromarray(np.dstack([colour, alpha])).save(folder / "alpha.png")
    PILImage.fromarray(colour[..., 0]).save(folder / "gray.png")
    PILImage.fromarray((colour[..., 0].astype(np.uint16) << 8) + 77).save(folder / "gray16.png")
    PILImage.fromarray(colour).quantize(16).save(folder / "palette.png")
    PILImage.fromarray(noisy(300, 64)).save(folder / "tall.png")
    return [folder / f"{name}.png" for name in ("colour", "alpha", "gray", "gray16", "palette", "tall")]


def test_png_files_in_a_row_are_saved_as_python_saves_them(
    host: Host, open_app: Callable[..., App], denoiser: edgedenoise.Denoiser, tmp_path: Path
) -> None:
    files = png_files(tmp_path)
    app = open_app(host.url)
    app.choose(*files)
    app.page.locator("#save-all", has_text=f"Save all {len(files)}").wait_for()
    archive = zipfile.ZipFile(app.saved(tmp_path, "#save-all"))
    assert sorted(archive.namelist()) == sorted(f"{file.stem}-denoised.png" for file in files)
    for file in files:
        expected = tmp_path / f"{file.stem}-expected.png"
        write_image(denoiser(read_image(file)), expected)
        saved = archive.read(f"{file.stem}-denoised.png")
        (tmp_path / "saved.png").write_bytes(saved)
        ours, theirs = read_image(tmp_path / "saved.png"), read_image(expected)
        assert_equal(ours, theirs)
        assert (ours.alpha is None) == (theirs.alpha is None), file.name
        assert ours.alpha is None or np.array_equal(ours.alpha, theirs.alpha), file.name
        chunks = [
            [chunk for chunk in png.read_chunks(data) if chunk[0] != b"IDAT"] for data in (saved, expected.read_bytes())
        ]
        assert chunks[0] == chunks[1], file.name


def phone_jpeg(path: Path) -> Path:
    """Write a JPEG file as phones do: turned, with a profile, XMP, a comment, and a second image behind an index."""
    stream = io.BytesIO()
    picture = PILImage.fromarray(noisy(96, 128))
    picture.save(stream, "JPEG", quality=88, exif=exif(6), icc_profile=PROFILE, xmp=XMP, comment=b"hello")
    data, second = stream.getvalue(), io.BytesIO()
    PILImage.fromarray(noisy(24, 32)).save(second, "JPEG")
    directory = struct.pack(">HHI4s", 0xB000, 7, 4, b"0100") + struct.pack(">HHII", 0xB001, 4, 1, 2)
    directory += struct.pack(">HHII", 0xB002, 7, 32, INDEX_ENTRIES)
    header = b"MM\x00*" + struct.pack(">IH", 8, 3) + directory + bytes(4)
    at = 20  # behind JFIF
    segment_bytes = 2 + 2 + 4 + len(header) + 32
    end, base = len(data) + segment_bytes, at + 8
    entries = struct.pack(">IIIHH", 0x20030000, end, 0, 0, 0) + struct.pack(">IIIHH", 0, 0, end - base, 0, 0)
    segment = b"\xff\xe2" + struct.pack(">H", segment_bytes - 2) + b"MPF\x00" + header + entries
    path.write_bytes(data[:at] + segment + data[at:] + second.getvalue())
    return path


def test_a_jpeg_file_keeps_its_metadata_as_in_python(
    host: Host, open_app: Callable[..., App], denoiser: edgedenoise.Denoiser, tmp_path: Path
) -> None:
    file = phone_jpeg(tmp_path / "phone.jpg")
    app = open_app(host.url)
    app.choose(file)
    app.finished()
    write_image(denoiser(read_image(file)), tmp_path / "expected.jpg")
    saved, expected = app.saved(tmp_path).read_bytes(), (tmp_path / "expected.jpg").read_bytes()
    ours, theirs = (jpeg.read_metadata(jpeg.read_segments(data)) for data in (saved, expected))

    def unindexed(blocks: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
        return [block for block in blocks if not block[1].startswith(b"MPF\x00")]

    assert unindexed(ours.native) == unindexed(theirs.native)
    assert (ours.icc, ours.exif, ours.xmp, ours.comments, ours.dpi) == (
        theirs.icc, theirs.exif, theirs.xmp, theirs.comments, theirs.dpi,
    )  # fmt: skip
    ends = [jpeg.read_trailer(data) for data in (saved, expected)]
    assert ends[0] is not None
    assert ends[1] is not None
    assert ends[0].data == ends[1].data
    index = next(body for marker, body in ours.native if body.startswith(b"MPF\x00"))
    entries = index[4 + INDEX_ENTRIES :]
    (size,), (second,) = struct.unpack_from(">I", entries, 4), struct.unpack_from(">I", entries, 16 + 8)
    assert size == ends[0].image_end
    assert saved[(ends[0].index_at or 0) + second :][:2] == b"\xff\xd8", "the index points at the second image"
    pixels = [np.asarray(PILImage.open(io.BytesIO(data)), np.float32) for data in (saved, expected)]
    assert np.abs(pixels[0] - pixels[1]).mean() < 2, "the browser compresses in another way"
    # On the screen the image stands upright: 96 wide and 128 high.
    app.settled()
    lit = [sum(pixel) > 0 for pixel in app.row()]
    stage = app.page.locator("#stage").bounding_box()
    assert sum(lit) / 2 == pytest.approx(stage["height"] * 96 / 128, abs=3)

    app.page.locator("#options summary").click()
    app.page.select_option("#format", "png")
    app.page.locator("#primary", has_text="Denoise again").click()
    app.finished()
    write_image(denoiser(read_image(file)), tmp_path / "expected.png")
    both = [app.saved(tmp_path).read_bytes(), (tmp_path / "expected.png").read_bytes()]
    parsed = [png.read_metadata(png.read_chunks(data)) for data in both]
    fields = [(one.icc, one.exif, one.xmp, one.comments, one.dpi, one.iptc) for one in parsed]
    assert fields[0] == fields[1]
    order = [[kind for kind, _ in png.read_chunks(data) if kind != b"IDAT"] for data in both]
    assert order[0] == order[1]


def test_the_divider_zoom_and_keys(host: Host, open_app: Callable[..., App], tmp_path: Path) -> None:
    PILImage.fromarray(noisy(400, 600)).save(tmp_path / "wide.png")
    app = open_app(host.url, **{**DESK, "device_scale_factor": 1, "has_touch": False, "is_mobile": False})
    app.choose(tmp_path / "wide.png")
    app.finished()
    app.settled()
    before = app.row()
    divider = app.page.locator("#divider")
    divider.focus()
    app.page.keyboard.press("PageUp")
    app.settled()
    after = app.row()
    changed = [x for x, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    width = len(before)
    assert divider.get_attribute("aria-valuenow") == "60"
    assert width * 0.5 - 2 <= min(changed), "left of the divider nothing changes"
    assert max(changed) <= width * 0.6 + 2
    box = divider.bounding_box()
    app.page.mouse.move(box["x"] + 22, box["y"] + 200)
    app.page.mouse.down()
    app.page.mouse.move(box["x"] - 300, box["y"] + 210, steps=4)
    app.page.mouse.up()
    assert int(divider.get_attribute("aria-valuenow")) < 40
    app.page.keyboard.press("End")
    app.page.click("[data-zoom='1']")
    assert app.page.get_attribute("[data-zoom='1']", "aria-pressed") == "true"
    app.settled()
    shown = np.array(app.row(), np.uint8)
    image = np.asarray(PILImage.open(tmp_path / "wide.png"))
    lit = np.flatnonzero(shown.sum(axis=1))
    assert len(lit) == 600, "at 1:1 each pixel of the image is one of the screen"
    assert any(np.array_equal(shown[lit], row) for row in image), "and the input is shown as it is"
    divider.focus()
    app.page.keyboard.press("+")
    app.settled()
    assert app.page.get_attribute("[data-zoom='1']", "aria-pressed") == "false"
    app.page.keyboard.press("0")
    assert app.page.get_attribute("[data-zoom='fit']", "aria-pressed") == "true"


def test_nothing_is_cut_or_wider_than_the_screen(host: Host, open_app: Callable[..., App], tmp_path: Path) -> None:
    name = tmp_path / f"{'a-very-long-name-of-a-file-' * 4}.png"
    PILImage.fromarray(noisy(64, 64)).save(name)
    cut = """() => {
        const found = [];
        const width = document.documentElement.scrollWidth;
        if (width > innerWidth) found.push(`page ${width}`);
        for (const each of document.querySelectorAll('h1,h2,p,button,label,output,summary,select,option,a')) {
            const box = each.getBoundingClientRect();
            if (box.width === 0 || each.closest('.only-read')) continue;
            if (box.left < -1 || box.right > innerWidth + 1) found.push(each.outerHTML);
            if (each.scrollWidth > each.clientWidth + 1 && each.clientWidth > 0) found.push(each.outerHTML);
        }
        return found;
    }"""
    for width in (320, 390):
        app = open_app(host.url, viewport={"width": width, "height": 780})
        assert app.page.evaluate(cut) == []
        app.choose(name)
        app.finished()
        app.page.locator("#options summary").click()
        assert app.page.evaluate(cut) == []
        small = app.page.evaluate("""() => [...document.querySelectorAll('button,select,summary')]
            .filter((each) => each.offsetHeight > 0 && each.getBoundingClientRect().height < 43)
            .map((each) => each.outerHTML)""")
        assert small == [], "everything can be hit with a thumb"


def test_colours_follow_the_system_and_can_be_read(host: Host, open_app: Callable[..., App]) -> None:
    grounds = {}
    for scheme in ("light", "dark"):
        app = open_app(host.url, color_scheme=scheme)
        pairs = app.page.evaluate("""() => ['h2', '.welcome p', 'button.primary', 'h1', '#offline'].map((name) => {
            const each = document.querySelector(name);
            let behind = each;
            while (getComputedStyle(behind).backgroundColor === 'rgba(0, 0, 0, 0)') behind = behind.parentElement;
            return [name, getComputedStyle(each).color, getComputedStyle(behind).backgroundColor];
        })""")
        grounds[scheme] = app.page.evaluate("getComputedStyle(document.body).backgroundColor")
        for name, ink, ground in pairs:
            assert contrast(ink, ground) >= 4.5, (scheme, name, ink, ground)
    assert luminance(grounds["light"]) > 0.8
    assert luminance(grounds["dark"]) < 0.05


def luminance(colour: str) -> float:
    """Return the relative luminance of `rgb(r, g, b)`: WCAG 2."""
    values = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_it_works_offline_after_the_first_visit(
    site: Path, open_app: Callable[..., App], denoiser: edgedenoise.Denoiser, tmp_path: Path
) -> None:
    PILImage.fromarray(noisy(64, 80)).save(tmp_path / "noisy.png")
    gone = Host(site)
    app = open_app(gone.url)
    assert app.page.evaluate("crossOriginIsolated"), "the service worker isolates the page"
    gone.stop()
    app.page.reload()
    app.page.wait_for_selector("html[data-ready]")
    app.choose(tmp_path / "noisy.png")
    app.finished()
    saved = read_image(app.saved(tmp_path))
    assert_equal(saved, denoiser(read_image(tmp_path / "noisy.png")))


def test_a_single_file_works_from_the_disk_without_a_network(
    bundle: Bundle, open_app: Callable[..., App], denoiser: edgedenoise.Denoiser, tmp_path: Path
) -> None:
    page = write_single_file([bundle], tmp_path / "index.html")
    assert page.stat().st_size < 7_000_000
    PILImage.fromarray(noisy(64, 80)).save(tmp_path / "noisy.png")
    app = open_app(page.as_uri(), offline=True)
    app.choose(tmp_path / "noisy.png")
    app.finished()
    saved = read_image(app.saved(tmp_path))
    assert_equal(saved, denoiser(read_image(tmp_path / "noisy.png")))
    assert [asked for asked in app.requests if not asked.startswith(("GET blob:", "GET data:"))] == [
        f"GET {page.as_uri()}"
    ]


def test_the_policy_forbids_other_servers(host: Host, open_app: Callable[..., App], site: Path) -> None:
    other = Host(site)
    app = open_app(host.url)
    refused = app.page.evaluate(
        "(url) => fetch(url, {method: 'POST', body: 'pixels', mode: 'no-cors'}).then(() => 'sent', String)", other.url
    )
    assert refused.startswith("TypeError")
    assert any("Content Security Policy" in message for message in app.messages)
    app.messages.clear()
    app.requests[:] = [asked for asked in app.requests if not asked.startswith(f"POST {other.url}")]
    other.stop()


def test_a_large_image_is_announced_and_can_be_cancelled(
    host: Host, open_app: Callable[..., App], tmp_path: Path
) -> None:
    tile = noisy(256, 256)
    PILImage.fromarray(np.tile(tile, (10, 14, 1))).save(tmp_path / "large.png", compress_level=1)
    app = open_app(host.url)
    app.choose(tmp_path / "large.png")
    app.page.locator("#detail", has_text="of memory").wait_for()
    assert "9.2 MP: needs about 480 MB of memory" in app.page.inner_text("#detail")
    app.page.locator("#primary", has_text="Denoise").click()
    app.page.locator("#detail", has_text=" left").wait_for()
    assert 0 < float(app.page.locator("#progress").evaluate("(each) => each.value")) < 1
    app.page.locator("#primary", has_text="Cancel").click()
    app.page.locator("#detail", has_text="Cancelled.").wait_for()
    assert app.page.locator("#primary").inner_text() == "Try again"


def repacked(bundle: Bundle, target: Path, change: Callable[[str, bytes], bytes], extra: str = "") -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(bundle.root.rglob("*")):
            if file.is_file():
                name = file.relative_to(bundle.root).as_posix()
                archive.writestr(name, change(name, file.read_bytes()))
        if extra:
            archive.writestr(extra, b"x")
    return target


def test_hostile_bundles_are_refused(host: Host, open_app: Callable[..., App], bundle: Bundle, tmp_path: Path) -> None:
    PILImage.fromarray(noisy(40, 40)).save(tmp_path / "noisy.png")
    flipped = repacked(
        bundle, tmp_path / "flipped.edge", lambda name, data: data[:-1] + b"\x00" if name.endswith(".onnx") else data
    )
    outside = repacked(bundle, tmp_path / "outside.edge", lambda _, data: data, extra="../../outside")
    (tmp_path / "text.edge").write_bytes(b"this is no archive")
    app = open_app(host.url)
    app.choose(tmp_path / "noisy.png")
    app.finished()
    refusals = {flipped: "is damaged or was changed", outside: "outside", tmp_path / "text.edge": "is not"}
    for hostile, words in refusals.items():
        app.page.set_input_files("#bundle-file", str(hostile))
        app.page.locator("#primary", has_text="Denoise again").click()
        app.page.locator("#primary", has_text="Try again").wait_for()
        assert app.page.locator("#error").is_visible(), hostile.name
        assert words in app.page.inner_text("#error"), hostile.name
        app.page.select_option("#network", "edge-tiny")
        app.page.click("#primary")
        app.finished()
    app.page.set_input_files("#bundle-file", str(repacked(bundle, tmp_path / "own.edge", lambda _, data: data)))
    app.page.locator("#primary", has_text="Denoise again").click()
    app.finished()


def test_a_live_camera_shows_frames_and_its_delay(host: Host, open_app: Callable[..., App]) -> None:
    app = open_app(host.url, permissions=["camera"])
    app.page.locator("#start [data-action='camera']").click()
    app.page.locator("#detail", has_text="ms late").wait_for()
    app.settled()
    assert sum(map(sum, app.row())) > 0, "frames are shown"
    assert "frames left out" in app.page.inner_text("#detail")
    app.page.locator("#share", has_text="Take this frame").click()
    app.finished()
    assert app.page.inner_text("#title").startswith("camera-")


def test_webgpu_gives_the_pixels_of_python(
    chromium: Any, host: Host, open_app: Callable[..., App], tmp_path: Path
) -> None:
    PILImage.fromarray(noisy(32, 32)).save(tmp_path / "noisy.png")
    flags = ["--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--use-angle=swiftshader"]
    flags += ["--enable-unsafe-swiftshader", "--enable-features=Vulkan"]
    software = chromium.launch(executable_path=CHROMIUM, args=flags, ignore_default_args=["--disable-gpu"])
    try:
        app = open_app(host.url, in_browser=software)
        if not app.page.evaluate("navigator.gpu?.requestAdapter().then((adapter) => adapter !== null) ?? false"):
            pytest.skip("this Chromium has no WebGPU in software; install: apt-get install chromium")
        app.page.evaluate("""() => {
            document.querySelector('#precision').value = 'fp32';
            document.querySelector('#where').value = 'webgpu';
        }""")
        app.choose(tmp_path / "noisy.png")
        app.finished()
        assert "float, WebGPU" in app.page.inner_text("#detail")
        with edgedenoise.load("edge-tiny", precision="fp32") as float_denoiser:
            expected = float_denoiser(read_image(tmp_path / "noisy.png"))
        assert_equal(read_image(app.saved(tmp_path)), expected)
        app.messages.clear()  # Chromium remarks on its own software adapter
    finally:
        software.close()


def test_the_lab_measures_and_sends_a_valid_record(
    host: Host, open_app: Callable[..., App], bundle: Bundle, tmp_path: Path
) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="to check records, install: pip install jsonschema")
    schema = json.loads(
        Path(__file__).parents[2].joinpath("docs/reference/edgedenoise-result-1.schema.json").read_text()
    )
    host.takes_results = True
    try:
        app = open_app(f"{host.url}test.html")
        app.page.fill("#label", "phone of Ana")
        app.page.select_option("#seconds", "0")
        app.page.click("#run")
        app.page.locator("#verdict").wait_for()
        assert app.page.inner_text("#verdict") == "Failed. The result was sent to the server of this page."
        assert "onnx-fp32, max_ms: too slow" in app.page.inner_text("#results")
        (result,) = host.results
        jsonschema.validate(result, schema)
        (tmp_path / "result.json").write_text(json.dumps(result))
        (run,) = read_results(tmp_path / "result.json").runs
        assert (run.client.name, run.machine.label, run.bundle.name) == ("web", "phone of Ana", "edge-tiny")
        assert run.bundle.digest == bundle.manifest.digest
        assert [variant.name for variant in run.variants] == ["onnx-fp32", "onnx-int8-u8s7"]
        for variant in run.variants:
            assert variant.selftest is not None
            assert variant.selftest.passed
            assert len(variant.timings[0].samples_ms) == 20
    finally:
        host.takes_results = False
