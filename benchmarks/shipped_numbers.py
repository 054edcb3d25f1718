"""Numbers of the documentation about the shipped bundles: kernels against exact arithmetic, and Core ML packages.

Integers are compared as users see them: rounded 8-bit output of each backend beside that of the reference execution
(unfused W8A8), on the image of the self-test and on crops of real images. Core ML packages are built and emulated.

    python benchmarks/shipped_numbers.py --record

`--record` writes docs/results/shipped.json and the tables of the pages. A test compares the pages with the record, and
the record with the shipped bundles, so that the tables cannot become stale.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from harness import DATA, ROOT, check_out, markdown_table, note, parser_of, provenance, run_benchmark, write_results

import edgedenoise
from edgedenoise.atomic import write_bytes
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.pretrained import SHIPPED
from edgedenoise.bundles.writer import copy_bundle
from edgedenoise.evaluation.result_files import encoded
from edgedenoise.exporting.verify import check_variant
from edgedenoise.imaging.files import read_image
from edgedenoise.imaging.image import from_unit
from edgedenoise.runtimes.job import BuildOptions
from edgedenoise.runtimes.noise_plane import noise_of, with_plane
from edgedenoise.runtimes.onnxruntime.reference import open_reference
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.selftest import selftest_pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgedenoise.runtimes.checked import CheckedSession

RECORD = ROOT / "docs" / "results" / "shipped.json"
SETS = ("polyu_test", "sidd_dev")
IMAGES_PER_SET = 4
CROP_PX = 128
PAGES = {
    "rounding": ROOT / "docs" / "guides" / "quantize.md",
    "coreml": ROOT / "docs" / "guides" / "iphone.md",
}
"""Section -> page that holds it, between two comments."""


def images(bundle: Bundle) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield (set, (3, H, W) in [0, 1])."""
    yield "self-test", selftest_pair(bundle)[0]
    for name in SETS:
        files = sorted((DATA / name / "noisy").glob("*"))
        for path in files[:: max(1, len(files) // IMAGES_PER_SET)][:IMAGES_PER_SET]:
            unit = read_image(path).crop(0, 0, CROP_PX).unit()
            planes = unit.transpose(2, 0, 1).copy()
            yield name, planes if bundle.manifest.noise_level is None else with_plane(planes, noise_of(unit).plane())


def differences(bundle: Bundle, name: str, reference: CheckedSession) -> dict[str, dict[str, float]]:
    """Return by set how many of 10,000 rounded values differ from the reference execution, and by how much at most."""
    manifest, found = bundle.manifest, {}
    with open_variant(bundle, bundle.variant(name), selftest=False) as session:
        for kind, pixels in images(bundle):
            given, exact = (
                from_unit(
                    run_image(one, pixels, manifest.input_normalization, manifest.tiling).transpose(1, 2, 0), np.uint8
                ).astype(int)
                for one in (session, reference)
            )
            found.setdefault(kind, []).append(np.abs(given - exact))
    return {
        kind: {
            "per_10000": round(10_000 * float(np.mean([np.mean(one > 0) for one in errors])), 1),
            "max_error_lsb": int(max(one.max() for one in errors)),
        }
        for kind, errors in found.items()
    }


def rounding(root: Path) -> list[dict[str, Any]]:
    """Measure the INT8 variants of a bundle on each backend that runs here."""
    bundle = edgedenoise.compile(root, target="openvino", precision="int8")
    graph = bundle.variant("onnx-int8-u8s7")
    with open_reference(bundle.model_files(graph).onnx_data) as reference:
        return [
            {"variant": name, "sets": differences(bundle, name, reference)}
            for name in (graph.name, "openvino-int8-u8s7")
        ]


def coreml(root: Path) -> list[dict[str, Any]]:
    """Build the Core ML packages of a bundle and emulate their self-test."""
    edgedenoise.quantize(root, scheme="coreml")
    rows, known = [], set()
    for precision, options in (("fp32", {}), ("fp16", {}), ("fp16", {"io": "image"}), ("w8a16", {}), ("int8", {})):
        edgedenoise.compile(root, target="coreml", precision=precision, options=BuildOptions(more=options))
        bundle = Bundle.open(root)
        new = next(v for v in bundle.manifest.variants if v.runtime == "coreml" and v.name not in known)
        known.add(new.name)
        check, fidelity = check_variant(bundle, new), new.fidelity_db
        rows.append(
            {
                "package": f"{precision}, images in and out" if options else precision,
                "psnr_db": None if check.psnr_db is None else round(check.psnr_db, 1),
                "max_error_lsb": None if check.max_error_lsb is None else round(check.max_error_lsb, 2),
                "exact_db": None if fidelity is None else round(fidelity, 1),
            }
        )
    return rows


def measure() -> dict[str, Any]:
    found: dict[str, Any] = {"provenance": provenance(["coremltools"]), "bundles": {}}
    for name in SHIPPED:
        note(name)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / f"{name}.edge"
            copy_bundle(Bundle.open(name), copy)
            entry = {"digest": Bundle.open(name).manifest.digest, "rounding": rounding(copy)}
            shutil.rmtree(copy)
            copy_bundle(Bundle.open(name), copy)
            if name == "edge":
                entry["coreml"] = coreml(copy)
        found["bundles"][name] = entry
    return found


def sections(record: dict[str, Any]) -> dict[str, str]:
    """Return the Markdown of each section."""
    bundles = record["bundles"]
    measured = [(name, one["variant"], one["sets"]) for name, entry in bundles.items() for one in entry["rounding"]]
    rows = [
        [f"`{name}`", variant, *(f"{kind['per_10000']:g} ({kind['max_error_lsb']})" for kind in sets.values())]
        for name, variant, sets in measured
    ]
    kinds = list(measured[0][2])
    shares = [kind["per_10000"] for _, _, sets in measured for kind in sets.values()]
    ties = (
        f"In {min(shares):g} to {max(shares):g} of 10,000 output values of the shipped networks, backends differ\n"
        "from exact arithmetic (in parentheses: by how many 8-bit levels at most):\n\n"
    )
    packages = [
        [
            one["package"],
            "-" if one["psnr_db"] is None else f"{one['psnr_db']:.1f}",
            "-" if one["max_error_lsb"] is None else f"{one['max_error_lsb']:.2f}",
            "" if one["exact_db"] is None else f"{one['exact_db']:.1f}",
        ]
        for one in bundles["edge"]["coreml"]
    ]
    package_header = ["package", "dB to float", "largest difference, levels", "exact W8A8 to float"]
    return {
        "rounding": ties + markdown_table(["bundle", "variant", *kinds], rows),
        "coreml": markdown_table(package_header, packages),
    }


def page_with(page: str, section: str, text: str) -> str:
    """Return a page with the text of a section replaced."""
    begin, end = f"<!-- {section}: written by benchmarks/shipped_numbers.py -->\n", f"<!-- {section} end -->\n"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}{text}\n{end}{rest.partition(end)[2]}"


def main() -> None:
    parser = parser_of(__doc__, "shipped_numbers")
    parser.add_argument("--record", action="store_true", help="write docs/results/shipped.json and the pages")
    options = parser.parse_args()
    check_out(options.out, "shipped_numbers")
    found = measure()
    write_results(options.out, "shipped_numbers", found)
    record = json.loads(encoded(found))
    for name, text in sections(record).items():
        print(f"{name}\n\n{text}\n")
        if options.record:
            page = PAGES[name]
            write_bytes(page, page_with(page.read_text(encoding="utf-8"), name, text).encode())
    if options.record:
        write_bytes(RECORD, encoded(record))


if __name__ == "__main__":
    run_benchmark(main)
