"""`edgedenoise doctor`."""

from __future__ import annotations

import edgedenoise
from edgedenoise.cli.common import Output, verb


@verb
def command(output: Output) -> None:
    """Tell what this machine can run, what is missing, and the command that would mend it."""
    found = edgedenoise.diagnose()
    here = found.environment
    vnni = "VNNI" if here.vnni else "no VNNI"
    lines = [
        f"edgedenoise {here.edgedenoise}, Python {here.python}, {here.system}",
        f"{here.cpu}, {here.cores} cores, {vnni}, {here.free_memory_bytes / 2**30:.1f} GB of memory free",
        "",
    ]
    for target in found.targets:
        if target.available:
            state = f"{target.version}, devices: {', '.join(target.devices)}"
        else:
            state = f"not available: {target.reason}"
        lines.append(f"{target.target:<12} {state}  ({target.runs_on})")
        if target.command:
            lines.append(f"{'':<12} to mend: {target.command}")
    output.result(found, "\n".join(lines))
