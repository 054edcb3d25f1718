"""The app for browsers, as a folder and as one file: complete, the same every time, and never over something else."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from graphs import branched_graph
from typer.testing import CliRunner

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.pretrained import shipped
from edgedenoise.cli import app
from edgedenoise.errors import IncompatibleError, OutputError, RuntimeUnavailableError, UsageError
from edgedenoise.exporting.web import files
from edgedenoise.exporting.web.single import write_single_file
from edgedenoise.exporting.web.site import write_site
from edgedenoise.imaging.normalize import UNIT

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BUILT = {
    "app/index.html": "<p>app</p>",
    "app/test.html": "<p>lab</p>",
    "app/sw.js": 'const FILES = /*FILES*/ [];\nconst CACHE = "edgedenoise-/*VERSION*/";\n',
    "app/assets/index-1.js": "start()",
    "app/assets/lab-1.js": "test()",
    "lib/ort/ort-wasm-simd-threaded.mjs": "export default 1",
    "lib/ort/ort-wasm-simd-threaded.wasm": "wasm",
    "lib/ort/ort-wasm-simd-threaded.asyncify.wasm": "webgpu",
    "single/app.js": "const text = '</script>'; start(text)",
    "single/app.css": "p { color: red }",
    "single/single.html": (
        '<head><meta http-equiv="Content-Security-Policy" content="__POLICY__" />\n'
        '<script type="module" crossorigin src="./app.js"></script>\n'
        '<link rel="stylesheet" crossorigin href="./app.css">\n</head><body><p>app</p></body>'
    ),
}
"""What `make web` builds, in short."""


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "dist"
    for name, text in BUILT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    monkeypatch.setattr(files, "_BUILT", folder)
    return folder


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    return Bundle.open(shipped("edge-tiny"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("built")
def test_a_site_holds_the_app_the_runtime_and_the_bundles(tiny: Bundle, tmp_path: Path) -> None:
    level = Bundle.open(shipped("edge-level"))
    site = write_site([tiny, level], tmp_path / "site")
    found = contents(site)
    assert {name.removeprefix("app/") for name in BUILT if name.startswith("app/")} < set(found)
    assert found["ort/ort-wasm-simd-threaded.wasm"] == b"wasm"
    assert Bundle.open(site / "bundles/edge-tiny.edge").manifest.digest == tiny.manifest.digest
    assert json.loads(found["bundles/index.json"])["bundles"] == [
        {"name": "edge-tiny", "file": "edge-tiny.edge", "bytes": len(found["bundles/edge-tiny.edge"]),
         "max_strength": 1, "precisions": ["fp32", "int8"]},
        {"name": "edge-level", "file": "edge-level.edge", "bytes": len(found["bundles/edge-level.edge"]),
         "max_strength": 2, "precisions": ["fp32", "int8"]},
    ]  # fmt: skip
    line = found["sw.js"].decode().splitlines()[0]
    listed = {entry["path"]: entry["first"] for entry in json.loads(line[len("const FILES = ") : -1])}
    assert set(listed) == set(found) - {"sw.js"}
    assert {name for name, first in listed.items() if not first} == {
        "assets/lab-1.js",
        "ort/ort-wasm-simd-threaded.asyncify.wasm",
        "test.html",
    }, "what few need is fetched when it is needed"


def test_the_same_bundles_give_the_same_bytes_and_every_change_another_version(
    tiny: Bundle, tmp_path: Path, built: Path
) -> None:
    first, second = (contents(write_site([tiny], tmp_path / name)) for name in ("one", "two"))
    assert first == second
    again = contents(write_site([tiny], tmp_path / "one"))
    assert again == first, "an earlier site is replaced"
    (built / "app/index.html").write_text("<p>new</p>")
    assert contents(write_site([tiny], tmp_path / "one"))["sw.js"] != first["sw.js"]


@pytest.mark.usefixtures("built")
def test_a_site_replaces_nothing_else(tiny: Bundle, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="holds something else than a web app"):
        write_site([tiny], tmp_path / "photos")
    assert contents(tmp_path / "photos") == {"a.png": b"mine"}
    with pytest.raises(OutputError, match="holds something else"):
        write_site([tiny], tmp_path / "photos" / "a.png")
    (tmp_path / "empty").mkdir()
    write_site([tiny], tmp_path / "empty")


@pytest.mark.usefixtures("built")
def test_bundles_that_cannot_be_offered_are_refused(
    tiny: Bundle, tmp_path: Path, make_bundle: Callable[..., Bundle]
) -> None:
    with pytest.raises(UsageError, match="expected at least one, got none"):
        write_site([], tmp_path / "site")
    with pytest.raises(UsageError, match="got edge-tiny twice"):
        write_site([tiny, tiny], tmp_path / "site")
    bundle = make_bundle(branched_graph(), normalization=UNIT)
    variants = [msgspec.structs.replace(variant, runtime="openvino") for variant in bundle.manifest.variants]
    other = replace(bundle, manifest=msgspec.structs.replace(bundle.manifest, variants=variants))
    with pytest.raises(IncompatibleError, match="has no ONNX variant, which browsers run"):
        write_single_file([other], tmp_path / "page.html")


@pytest.mark.usefixtures("built")
def test_a_single_file_holds_everything_and_runs_nothing_else(tiny: Bundle, tmp_path: Path) -> None:
    page = write_single_file([tiny], tmp_path / "new" / "page.html")
    html = page.read_text()
    assert write_single_file([tiny], tmp_path / "other.html").read_text() == html
    scripts = dict(re.findall(r'<script type="application/\w+" id="([^"]+)">(.*?)</script>', html, re.DOTALL))
    assert list(scripts) == ["bundles", "ort-mjs", "ort-wasm", "bundle-edge-tiny.edge"]
    assert gzip.decompress(base64.b64decode(scripts["ort-wasm"])) == b"wasm"
    packed = tmp_path / "packed.edge"
    packed.write_bytes(gzip.decompress(base64.b64decode(scripts["bundle-edge-tiny.edge"])))
    assert Bundle.open(packed).manifest.digest == tiny.manifest.digest
    assert json.loads(scripts["bundles"])[0]["bytes"] == packed.stat().st_size
    (module,) = re.findall(r'<script type="module">(.*?)</script>', html, re.DOTALL)
    assert module == "const text = '<\\/script>'; start(text)"
    (style,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    for text in (module, style):
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    assert policy.startswith("default-src 'none'")
    assert "connect-src" not in policy, "so that nothing can be fetched or sent"
    assert "src=" not in html
    assert "href=" not in html


def test_without_the_built_files_the_command_that_builds_them_is_named(
    tiny: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_BUILT", tmp_path / "nothing")
    for write in (write_site, write_single_file):
        with pytest.raises(RuntimeUnavailableError, match="the browser app has not been built") as refused:
            write([tiny], tmp_path / "out")
        assert refused.value.hint == "Build it in a checkout: make web"
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("built")
def test_the_command_writes_both_forms(tmp_path: Path) -> None:
    def run(*arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["compile", "edge-tiny", "--target", *map(str, arguments)])
        return result.exit_code, result.output

    code, text = run("web", "-o", tmp_path / "site")
    assert code == 0, text
    assert "http.server" in text
    assert (tmp_path / "site/bundles/edge-tiny.edge").is_file()
    code, text = run("web", "-o", tmp_path / "one", "--option", "single_file=true", "--json")
    assert code == 0, text
    assert json.loads(text) == {"path": str(tmp_path / "one" / "index.html")}
    for arguments, words in (
        (("web",), "-o"),
        (("web", "-o", tmp_path / "x", "--option", "zip=true"), "single_file (default false)"),
        (("web", "-o", tmp_path / "x", "--tile", "256"), "takes no precision and no tiles"),
        (("openvino", "-o", tmp_path / "x"), "-o is for --target web"),
    ):
        code, text = run(*arguments)
        assert code == 2, text
        assert words in text
    assert not (tmp_path / "x").exists()
