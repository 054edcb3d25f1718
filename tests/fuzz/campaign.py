"""Feed every parser mutated inputs for a given time, and report what was found.

    python tests/fuzz/campaign.py --minutes 60 --jobs 2

Each parser runs in a process of its own, so that a crash, a hang or a lack of memory ends that process only. An input
is a function of the seed, the parser and its number. Inputs that were findings are written to `--out`; after they are
fixed, they belong into tests/fuzz/findings. `--record` writes the table of docs/results/robustness.md.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

RECORD, PAGE = (ROOT / "docs" / "results" / f"robustness.{kind}" for kind in ("json", "md"))
BEGIN, END = "<!-- results: written by tests/fuzz/campaign.py -->\n", "<!-- results end -->\n"
STUCK_S = 60
"""Wall time after which a process is ended: one that computes is measured by its processor time before that."""
SPARE_BYTES = 3 << 30
"""Memory that a process may take beyond what it has when it begins."""
KINDS = ("foreign", "hang", "memory", "crash")


@dataclass
class Outcome:
    """What the inputs of one parser did."""

    parser: str
    inputs: int = 0
    seconds: float = 0.0
    findings: dict[str, int] = field(default_factory=dict)
    """Kind and detail -> number of inputs."""

    def count(self, kind: str) -> int:
        """Return how many inputs were findings of a kind."""
        return sum(number for found, number in self.findings.items() if found.startswith(f"{kind}: "))


def child(parser: str, seed: str, first: int, seconds: float, state: Path) -> None:
    """Feed one parser until the time is over; the number of the current input is in `state`, findings go to stdout."""
    from fuzz_targets import corpus_of, targets
    from fuzzing import examine, memory_bytes
    from mutation import mutation

    target, corpus = targets()[parser], corpus_of(parser)
    with tempfile.TemporaryDirectory() as scratch, state.open("r+b", buffering=0) as position:
        folder = Path(scratch) / "work"
        folder.mkdir()
        for data in corpus:  # what is imported on the first use is no part of the measurement
            examine(target, data, folder)
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes("VmSize") + SPARE_BYTES, resource.RLIM_INFINITY))
        number, end = first, time.monotonic() + seconds
        while time.monotonic() < end:
            position.seek(0)
            position.write(b"%12d" % number)
            data = mutation(corpus, f"{seed}-{parser}-{number}", target.change)
            faulthandler.dump_traceback_later(STUCK_S, exit=True)
            finding = examine(target, data, folder)
            faulthandler.cancel_dump_traceback_later()
            if finding is not None:
                print(json.dumps({"number": number, "kind": finding.kind, "detail": finding.detail}), flush=True)
            number += 1
        position.seek(0)
        position.write(b"%12d" % number)


def fuzz(parser: str, seed: str, seconds: float, out: Path) -> Outcome:
    """Run processes for one parser until the time is over, and keep the inputs that were findings."""
    outcome, first, end = Outcome(parser), 0, time.monotonic() + seconds
    while (left := end - time.monotonic()) > 1 and len(outcome.findings) < 200:
        with tempfile.NamedTemporaryFile() as state:
            state.write(b"%12d" % first)
            state.flush()
            arguments = ["--child", parser, "--seed", seed, "--first", str(first), "--seconds", str(left)]
            done = subprocess.run(
                [sys.executable, __file__, *arguments, "--state", state.name],
                capture_output=True,
                text=True,
                check=False,
            )
            reached = int(Path(state.name).read_bytes())
        for line in done.stdout.splitlines():
            _keep(outcome, json.loads(line), seed, out)
        outcome.inputs += reached - first
        first = reached
        if done.returncode != 0:
            stuck = "Timeout" in done.stderr
            reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
            found = {"number": reached, "kind": "hang" if stuck else "crash"}
            _keep(outcome, {**found, "detail": f"exit code {done.returncode}: {reason[:200]}"}, seed, out)
            outcome.inputs += 1
            first += 1
    outcome.seconds = round(seconds - (end - time.monotonic()), 1)
    print(f"{parser}: {outcome.inputs} inputs, {sum(outcome.findings.values())} findings", file=sys.stderr, flush=True)
    return outcome


def _keep(outcome: Outcome, found: dict[str, Any], seed: str, out: Path) -> None:
    """Count a finding, and write its input where it is the first of its kind."""
    from fuzz_targets import corpus_of, targets
    from mutation import mutation

    name = f"{found['kind']}: {found['detail']}"
    if name not in outcome.findings:
        parser = outcome.parser
        data = mutation(corpus_of(parser), f"{seed}-{parser}-{found['number']}", targets()[parser].change)
        path = out / parser / f"{found['kind']}-{hashlib.sha256(data).hexdigest()[:10]}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        print(f"{path}: input {found['number']}: {name}", file=sys.stderr, flush=True)
    outcome.findings[name] = outcome.findings.get(name, 0) + 1


def section(record: dict[str, Any]) -> str:
    """Return the results as Markdown, for the page."""
    rows = [["parser", "inputs", "foreign exceptions", "hangs", "above 2 GB", "crashes"]]
    rows.append(["---", *["---:"] * 5])
    outcomes = [Outcome(**one) for one in record["parsers"]]
    rows += [[one.parser, f"{one.inputs:,}", *(str(one.count(kind)) for kind in KINDS)] for one in outcomes]
    total = sum(one.inputs for one in outcomes)
    rows.append(["**all**", f"**{total:,}**", *(f"**{sum(one.count(kind) for one in outcomes)}**" for kind in KINDS)])
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in rows)
    minutes = sum(one.seconds for one in outcomes) / 60 / record["jobs"]
    about = f"{record['date']}, {minutes:.0f} minutes, {record['jobs']} processes, {record['cpu']}."
    return f"{BEGIN}{table}\n{about} The command was:\n\n    {record['command']}\n\n{END}"


def write_page(record: dict[str, Any]) -> None:
    """Write the record, and its table into the page."""
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    PAGE.write_text(before + section(record) + rest.partition(END)[2], encoding="utf-8")


def main() -> int:
    """Run the campaign."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60, help="time for all parsers together; default: 60")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once; default: 2")
    parser.add_argument("--seed", default="1", help="other inputs with another seed; default: 1")
    parser.add_argument("--parsers", help="names, separated by commas; default: all whose packages are installed")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "fuzz", help="folder of the findings")
    parser.add_argument("--record", action="store_true", help="write docs/results/robustness.json and the table")
    for hidden in ("--child", "--first", "--seconds", "--state"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(given.child, given.seed, int(given.first), float(given.seconds), Path(given.state))
        return 0

    from fuzz_targets import targets

    from edgedenoise.evaluation.environment import environment

    chosen = given.parsers.split(",") if given.parsers else list(targets())
    chosen = [name for name in chosen if all(find_spec(package) for package in targets()[name].needs)]
    seconds = given.minutes * 60 * given.jobs / len(chosen)
    with ThreadPoolExecutor(given.jobs) as pool:
        outcomes = list(pool.map(lambda name: fuzz(name, given.seed, seconds, given.out), chosen))
    found = environment()
    record = {
        "command": f"make fuzz MINUTES={given.minutes:g} FUZZ_SEED={given.seed}",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "jobs": given.jobs,
        "cpu": found.cpu,
        "packages": found.packages,
        "parsers": [asdict(one) for one in outcomes],
    }
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "fuzz.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    if given.record:
        write_page(record)
    print(section(record))
    return int(any(one.findings for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
