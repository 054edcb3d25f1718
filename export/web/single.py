"""The app, ONNX Runtime and bundles as one HTML file, which opens from a disk without a network."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from edgedenoise.atomic import write_bytes
from edgedenoise.bundles import archive
from edgedenoise.exporting.web.files import RUNTIME_FOLDER, built_web
from edgedenoise.exporting.web.site import WebBundle, check_bundles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from edgedenoise.bundles.bundle import Bundle

FILE: Final = "index.html"
"""Name of the file in the folder that `compile` writes."""
_RUNTIME: Final = {"ort-mjs": "ort-wasm-simd-threaded.mjs", "ort-wasm": "ort-wasm-simd-threaded.wasm"}
_POLICY: Final = (
    "default-src 'none'; script-src {scripts} 'wasm-unsafe-eval' data:; worker-src blob:; style-src {style}; "
    "img-src blob: data:; media-src blob:; base-uri 'none'; form-action 'none'"
)
_LINKS: Final = re.compile(r'\s*<link rel="stylesheet"[^>]*>|\s*<script type="module"[^>]*></script>')


def write_single_file(bundles: Sequence[Bundle], target: Path) -> Path:
    """Write the app and bundles as one HTML file that works without a network and without a server.

    Its content-security policy forbids every connection. It has one thread and no WebGPU. The same bundles give the
    same bytes.

    Args:
        bundles: the networks that the app offers, in this order.
        target: the file.

    Returns:
        The file.

    Raises:
        RuntimeUnavailableError: the app has not been built.
        UsageError: two bundles have the same name, or there is none.
        OutputError: `target` cannot be written.
        IntegrityError: a bundle is damaged.

    Example:
        >>> from edgedenoise.bundles.bundle import Bundle
        >>> page = write_single_file([Bundle.open("edge-tiny")], Path("index.html"))  # doctest: +SKIP
    """
    built = built_web()
    check_bundles(bundles, [bundle.manifest.name for bundle in bundles])
    single = built / "single"
    script = (single / "app.js").read_text(encoding="utf-8")
    style = (single / "app.css").read_text(encoding="utf-8")
    data = {name: (built / "lib" / RUNTIME_FOLDER / file).read_bytes() for name, file in _RUNTIME.items()}
    listed = []
    for bundle in bundles:
        bundle.check()
        packed = _packed(bundle)
        entry = WebBundle.of(bundle, bundle.manifest.name, len(packed))
        data[f"bundle-{entry.file}"] = packed
        listed.append(entry)
    page = _page((single / "single.html").read_text(encoding="utf-8"), script, style, listed, data)
    write_bytes(target, page.encode())
    return target


def _page(html: str, script: str, style: str, listed: list[WebBundle], data: dict[str, bytes]) -> str:
    script, style = script.replace("</script", "<\\/script"), style.strip()
    policy = _POLICY.format(scripts=_hash(script), style=_hash(style))
    names = msgspec.json.encode(listed).decode().replace("<", "\\u003c")
    blocks = [f'<script type="application/json" id="bundles">{names}</script>']
    for name, content in data.items():
        text = base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()
        blocks.append(f'<script type="application/gzip" id="{name}">{text}</script>')
    blocks.append(f'<script type="module">{script}</script>')
    html = _LINKS.sub("", html).replace("__POLICY__", policy)
    html = html.replace("</head>", f"<style>{style}</style>\n  </head>")
    return html.replace("</body>", "\n".join(blocks) + "\n  </body>")


def _hash(text: str) -> str:
    """Return the source expression of an inline script or style, by its hash."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _packed(bundle: Bundle) -> bytes:
    """Return the archive of a bundle."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "packed.edge"
        archive.pack(bundle.root, file)
        return file.read_bytes()
