"""Write the table of results on the front page, from a run of benchmarks/students.py with the options of `COMMAND`.

    python tools/front_page_table.py build/benchmarks/students.json

The numbers are kept in docs/results/front-page.json. A test compares the README with that file.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "results" / "front-page.json"
README = ROOT / "README.md"
BEGIN, END = "<!-- results: written by tools/front_page_table.py -->\n", "<!-- results end -->\n"

COMMAND = "python benchmarks/students.py edge edge-tiny --sets polyu_test,sidd_dev --every 10 --repeats 5"

SETS = {"polyu_test": "PolyU", "sidd_dev": "SIDD"}
"""Name in the benchmark -> name in the table."""
NETWORKS = {"edge onnx-int8-u8s7": "`edge`, INT8", "edge-tiny onnx-int8-u8s7": "`edge-tiny`, INT8"}
CLASSICAL = {"OpenCV NLM": "OpenCV NLM", "skimage NLM": "scikit-image NLM", "skimage wavelet": "scikit-image wavelet"}


def record_of(report: dict[str, Any]) -> dict[str, Any]:
    """Return what the table shows, from the JSON that benchmarks/students.py writes."""
    results = report["results"]
    sets = {one["name"]: one for one in results["sets"]}
    noisy = {name: sets[name]["peers"][0]["quality"]["psnr_db"] for name in SETS}
    sizes = {student["label"]: student["size_bytes"] for student in results["students"]}
    rows = []
    for label, shown in NETWORKS.items():
        quality = {name: sets[name]["students"][label]["quality"]["psnr_db"] for name in SETS}
        rows.append(row(shown, quality, results["speeds"][label], sizes[label]))
    for label, shown in CLASSICAL.items():
        peers = {name: next(peer for peer in sets[name]["peers"] if peer["name"] == label) for name in SETS}
        quality = {name: peer["quality"]["psnr_db"] for name, peer in peers.items()}
        rows.append(row(shown, quality, results["speeds"][label], None))
    return {
        "provenance": report["provenance"],
        "images": {name: sets[name]["images"] for name in SETS},
        "noisy_psnr_db": {name: round(value, 2) for name, value in noisy.items()},
        "rows": rows,
    }


def row(method: str, psnr_db: dict[str, float], speed: dict[str, Any], size_bytes: int | None) -> dict[str, Any]:
    return {
        "method": method,
        "psnr_db": {name: round(value, 2) for name, value in psnr_db.items()},
        "cpu_ms_per_mp": round(speed["cpu_p50_ms_per_mp"]),
        "size_kb": None if size_bytes is None else round(size_bytes / 1024),
    }


def section(record: dict[str, Any]) -> str:
    """Return the table of the front page as Markdown."""
    noisy = record["noisy_psnr_db"]
    header = [
        "method",
        *(f"{shown}, dB (noisy {noisy[name]:.1f})" for name, shown in SETS.items()),
        "ms per megapixel",
        "KB",
    ]
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for one in record["rows"]:
        size = "-" if one["size_kb"] is None else str(one["size_kb"])
        lines.append(
            [one["method"], *(f"{one['psnr_db'][name]:.2f}" for name in SETS), str(one["cpu_ms_per_mp"]), size]
        )
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    images = " and ".join(f"{record['images'][name]} images of {shown}" for name, shown in SETS.items())
    text = (
        f"PSNR on real camera noise ({images}), processor time of one thread. Each classical method has the strength"
        " that is best for the set, chosen with the clean images. The networks have no setting, and were trained on"
        " other images with synthetic noise. [More results](docs/results/index.md). The command is:"
    )
    return f"{table}\n{textwrap.fill(text, 100)}\n\n    {COMMAND}\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the table of results on the front page.")
    parser.add_argument("report", type=Path, help="students.json of benchmarks/students.py")
    options = parser.parse_args()
    record = record_of(json.loads(options.report.read_text(encoding="utf-8")))
    RECORD.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    README.write_text(before + BEGIN + section(record) + END + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
