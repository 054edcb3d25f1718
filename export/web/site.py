"""A folder of static files: the app, ONNX Runtime, the bundles, and the service worker that makes them work offline."""

from __future__ import annotations

import hashlib
import re
import shutil
from typing import TYPE_CHECKING, Final

import msgspec

from edgedenoise.atomic import atomic_folder, sha256_of
from edgedenoise.bundles import archive
from edgedenoise.calibration.calibrate import export_hint
from edgedenoise.errors import IncompatibleError, OutputError, UsageError
from edgedenoise.exporting.web.files import RUNTIME_FOLDER, built_web
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from edgedenoise.bundles.bundle import Bundle

BUNDLES: Final = "bundles"
"""Folder of the bundles in a site."""
INDEX: Final = f"{BUNDLES}/index.json"
"""The list of the bundles in a site."""
FILE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,99}")
"""Names that bundles may have in a site: the name comes from the manifest, which anyone may have written."""
_WORKER: Final = "sw.js"
_FILES_MARK: Final = "/*FILES*/ []"
_VERSION_MARK: Final = "/*VERSION*/"
_ON_DEMAND: Final = ("ort/ort-wasm-simd-threaded.asyncify.", "test.html", "assets/lab")
"""Beginnings of the names of files that are kept for offline use after they were needed: WebGPU, and the device lab."""


class WebBundle(msgspec.Struct, frozen=True):
    """A bundle as the list of a site describes it."""

    name: str
    """Name that people choose it by."""
    file: str
    """Archive beside the list."""
    bytes: int
    """Size of the archive."""
    max_strength: int
    """2 for networks that take the noise level, otherwise 1."""
    precisions: list[str]
    """Precisions that a browser can run."""

    @classmethod
    def of(cls, bundle: Bundle, name: str, size_bytes: int) -> WebBundle:
        """Return the entry of a bundle."""
        runnable = [v.precision for v in bundle.manifest.variants if v.runtime == OnnxRuntime.name]
        strength = 1 if bundle.manifest.noise_level is None else 2
        return cls(name, f"{name}.edge", size_bytes, strength, list(dict.fromkeys(runnable)))


class _Index(msgspec.Struct, frozen=True):
    bundles: list[WebBundle]


class _Cached(msgspec.Struct, frozen=True):
    path: str
    first: bool
    """Whether it is fetched at the first visit."""


def write_site(bundles: Sequence[Bundle], out: Path, names: Sequence[str] = ()) -> Path:
    """Write the app and bundles as a folder for any host of static files.

    The same bundles give the same bytes. The folder works under any address, and after the first visit without a
    network. It must be served over HTTPS, or from this computer: browsers allow service workers and cameras only there.

    Args:
        bundles: the networks that the app offers, in this order.
        out: the folder; one that an earlier call wrote is replaced.
        names: other names for the bundles than those in their manifests.

    Returns:
        The folder.

    Raises:
        RuntimeUnavailableError: the app has not been built.
        UsageError: two bundles have the same name, or there is none.
        OutputError: `out` holds something else, or cannot be written.
        IntegrityError: a bundle is damaged.

    Example:
        >>> from edgedenoise.bundles.bundle import Bundle
        >>> site = write_site([Bundle.open("edge-tiny")], Path("site"))  # doctest: +SKIP
    """
    built = built_web()
    chosen = names or [bundle.manifest.name for bundle in bundles]
    check_bundles(bundles, chosen)
    _check_replaceable(out)
    with atomic_folder(out) as folder:
        shutil.copytree(built / "app", folder, dirs_exist_ok=True)
        shutil.copytree(built / "lib" / RUNTIME_FOLDER, folder / RUNTIME_FOLDER)
        (folder / BUNDLES).mkdir()
        listed = []
        for bundle, name in zip(bundles, chosen, strict=True):
            bundle.check()
            file = folder / BUNDLES / f"{name}.edge"
            archive.pack(bundle.root, file)
            listed.append(WebBundle.of(bundle, name, file.stat().st_size))
        (folder / INDEX).write_bytes(msgspec.json.encode(_Index(listed)))
        _finish_worker(folder)
    return out


def check_bundles(bundles: Sequence[Bundle], names: Sequence[str]) -> None:
    """Check that there are bundles, and that their names differ.

    Raises:
        UsageError: two bundles have the same name, one cannot be the name of a file, or there is no bundle.
        IncompatibleError: a bundle has nothing that a browser runs.
    """
    if not bundles:
        raise UsageError("there is no bundle for the app: expected at least one, got none")
    for bundle in bundles:
        if not any(variant.runtime == OnnxRuntime.name for variant in bundle.manifest.variants):
            raise IncompatibleError(
                f"{bundle.source} has no ONNX variant, which browsers run", hint=export_hint(bundle)
            )
    wrong = next((name for name in names if not FILE_NAME.fullmatch(name)), None)
    if wrong is not None:
        raise UsageError(
            f"a bundle has a name that no file can have: expected letters, digits, spaces, -, _ and ., got {wrong!r}"
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two bundles have the same name: expected different ones, got {twice} twice")


def _check_replaceable(out: Path) -> None:
    """Check that a folder is new, empty, or an earlier site."""
    if out.exists() and not (out / INDEX).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(
            f"{out} holds something else than a web app, so it is not overwritten: expected an empty folder",
            hint="Choose another folder with -o, or remove it first.",
        )


def _finish_worker(folder: Path) -> None:
    """Write the list of files and a version into the service worker, so that browsers notice every change."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    names.remove(_WORKER)
    cached = [_Cached(name, not name.startswith(_ON_DEMAND)) for name in names]
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name} {sha256_of(folder / name)}\n".encode())
    worker = folder / _WORKER
    text = worker.read_text(encoding="utf-8")
    text = text.replace(_FILES_MARK, msgspec.json.encode(cached).decode())
    worker.write_text(text.replace(_VERSION_MARK, digest.hexdigest()[:16]), encoding="utf-8", newline="\n")
