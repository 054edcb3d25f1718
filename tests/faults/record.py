"""Write what `make faults` or `make soak` found into docs/results: the numbers, and the tables of the page.

    python tests/faults/record.py faults build/faults.xml "make faults KILLS=200"

The report is that of `pytest --junitxml`. Tests add how often they tried something as the property `tries`, and the
soak what the process used.
"""

from __future__ import annotations

import json
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
RECORD, PAGE = ROOT / "docs" / "results" / "faults.json", ROOT / "docs" / "results" / "robustness.md"
PARTS = {
    "test_kills": "kills at random instants",
    "test_interrupts": "Ctrl-C and SIGTERM at random instants",
    "test_full_disks": "disks that are full at one write after the other",
    "test_power_cuts": "power cuts after each operation",
    "test_limits": "commands without file handles, permissions or space",
    "test_continued_runs": "runs that are stopped and continued",
}


def faults_of(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, for each part of the tests, how many ran, failed and were skipped, and how often they tried."""
    rows = []
    for module, name in PARTS.items():
        own = [case for case in cases if case["module"] == module]
        counts = {state: sum(case["state"] == state for case in own) for state in ("passed", "failed", "skipped")}
        rows.append({"part": name, **counts, "tries": sum(int(case["properties"].get("tries", 0)) for case in own)})
    return rows


def soak_of(cases: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what the process used after the first images and after the last one."""
    (case,) = (case for case in cases if case["module"] == "test_soak")
    used = {name: [int(n) for n in value.split()] for name, value in case["properties"].items() if " " in value}
    images = {name: int(case["properties"][name]) for name in ("warm", "images")}
    return {"state": case["state"], "seconds": case["seconds"], **images, "used": used}


def cases_of(report: Path) -> list[dict[str, Any]]:
    """Return the tests of a report: module, state, seconds and properties."""
    cases = []
    for case in ElementTree.parse(report).iter("testcase"):  # noqa: S314 - our own file
        kinds = {child.tag for child in case}
        state = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        properties = {item.attrib["name"]: item.attrib["value"] for item in case.iter("property")}
        module = case.attrib["classname"].rpartition(".")[2]
        seconds = round(float(case.attrib["time"]))
        cases.append({"module": module, "state": state, "seconds": seconds, "properties": properties})
    return cases


def section(name: str, record: dict[str, Any]) -> str:
    """Return the results of a command as Markdown, for the page."""
    if name == "faults":
        rows = [["what", "tries", "tests passed", "failed", "skipped"], ["---", *["---:"] * 4]]
        rows += [
            [row["part"], f"{row['tries']:,}", *(str(row[state]) for state in ("passed", "failed", "skipped"))]
            for row in record["results"]
        ]
    else:
        found = record["results"]
        rows = [["", *(f"after {found[name]:,} images" for name in ("warm", "images"))], ["---", "---:", "---:"]]
        rows += [[what, *(f"{number:,}" for number in numbers)] for what, numbers in found["used"].items()]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
    about = f"{record['date']}, {record['cpu']}. The command was:"
    begin, end = markers(name)
    return f"{begin}{table}\n{about}\n\n    {record['command']}\n\n{end}"


def markers(name: str) -> tuple[str, str]:
    """Return the lines of the page around the results of a command."""
    return f"<!-- {name}: written by tests/faults/record.py -->\n", f"<!-- {name} end -->\n"


def main(name: str, report: str, command: str) -> None:
    """Write the record, and its table into the page."""
    from edgedenoise.evaluation.environment import environment

    cases = cases_of(Path(report))
    records = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    records[name] = {
        "command": command,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": environment().cpu,
        "results": faults_of(cases) if name == "faults" else soak_of(cases),
    }
    RECORD.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    begin, end = markers(name)
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    PAGE.write_text(before + section(name, records[name]) + rest.partition(end)[2], encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
