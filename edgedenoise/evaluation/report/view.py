"""What the page of a report shows: verdicts, plots, tables and facts, prepared for the template."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgedenoise.evaluation.report.columns import Table, check_table, variant_table
from edgedenoise.evaluation.report.plots import LatencyPlot, Scatter, latency_plot, scatter
from edgedenoise.evaluation.report.summary import DeviceSummary, VariantSummary, summarize_run
from edgedenoise.evaluation.report.verdict import Verdict, verdict
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from edgedenoise.evaluation.results import Run


@dataclass(frozen=True)
class Tile:
    """A number that stands out."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class DeviceView:
    """One device of a report."""

    summary: DeviceSummary
    verdict: Verdict
    tiles: tuple[Tile, ...]
    table: Table
    checks: Table | None
    """Limits that `edgedenoise test` checked on the device; None where it was not run."""
    scatter: Scatter | None
    latency: LatencyPlot | None
    facts: tuple[tuple[str, str], ...]
    """(name, text) of the machine, its versions and the measurement."""
    remarks: tuple[str, ...]
    """On variants: why one was not measured or is slower than float, and which ones `denoise` takes."""


def device_view(run: Run, tests: Sequence[Run] = ()) -> DeviceView:
    """Return what is shown of a run.

    Args:
        run: the run.
        tests: runs of `edgedenoise test`; those of the same device and bundle are shown with it.
    """
    summary = summarize_run(run, next((one for one in tests if _what(one) == _what(run)), None))
    found = verdict(summary)
    best = next((one for one in summary.variants if one.name == found.variant), None)
    return DeviceView(
        summary=summary,
        verdict=found,
        tiles=() if best is None else _tiles(best, summary),
        table=variant_table(summary),
        checks=check_table(summary.checks) if summary.checks else None,
        scatter=scatter(summary, found.variant),
        latency=latency_plot(summary),
        facts=tuple((name, text) for name, text in _facts(run) if text),
        remarks=(
            *(remark for one in summary.variants if (remark := _remark(one))),
            *([] if summary.auto is None else [f"{summary.auto.sentence}."]),
        ),
    )


def shown_runs(runs: Iterable[Run]) -> list[Run]:
    """Return the run to show of each device and bundle: the latest one with images, otherwise the latest with times."""
    chosen: dict[tuple[object, ...], Run] = {}
    for run in sorted(runs, key=lambda one: (_worth(one), one.started)):
        chosen[_what(run)] = run
    return sorted(chosen.values(), key=lambda run: (run.machine.label, run.bundle.name, run.started))


def latest_tests(runs: Iterable[Run], shown: Iterable[Run]) -> list[Run]:
    """Return the latest run with checks of each device and bundle that is shown."""
    latest = {_what(run): run for run in sorted(runs, key=lambda one: one.started) if run.checks}
    return [latest[what] for what in dict.fromkeys(map(_what, shown)) if what in latest]


def _what(run: Run) -> tuple[object, ...]:
    """Return what a report shows one run of: the device and the bundle."""
    return run.device, run.bundle.name, run.bundle.digest


def _worth(run: Run) -> int:
    return 2 if run.images else int(any(one.timings for one in run.variants))


def commands(runs: Iterable[Run]) -> list[str]:
    """Return the command lines that repeat the measurements, each once."""
    return list(dict.fromkeys(command_line(*run.arguments) for run in runs if run.arguments))


def _tiles(best: VariantSummary, device: DeviceSummary) -> tuple[Tile, ...]:
    tiles = []
    if best.speed is not None and not best.is_float:
        tiles.append(Tile("speed", f"{best.speed:.1f}x", f"of {best.compared_with}"))
    if best.p50 is not None:
        tiles.append(Tile("time per megapixel", f"{best.p50:.0f} ms", "median of whole calls"))
    if best.change is not None:
        interval = best.change.interval
        note = "" if interval is None else f"95 %: {interval.low:+.2f} to {interval.high:+.2f} dB"
        tiles.append(Tile("change to float", f"{best.change.mean_db:+.2f} dB", note))
        tiles.append(Tile("worst image", f"{best.change.worst_db:+.2f} dB", best.change.worst_image))
    elif best.to_float_db is not None:
        tiles.append(Tile("PSNR to float", f"{best.to_float_db:.1f} dB"))
    if device.has_truth and "psnr_db" in best.means:
        gain = best.means["psnr_db"] - device.noisy["psnr_db"]
        tiles.append(Tile("gain over the input", f"{gain:+.2f} dB", f"PSNR {best.means['psnr_db']:.2f} dB"))
    tiles.append(Tile("size", f"{best.result.size_bytes / 1024:.0f} KB"))
    if best.result.peak_rss_bytes is not None:
        tiles.append(Tile("peak memory", f"{best.result.peak_rss_bytes / 2**20:.0f} MB", "of the whole process"))
    return tuple(tiles)


def _facts(run: Run) -> list[tuple[str, str]]:
    machine, environment, bundle = run.machine, run.environment, run.bundle
    cores = f"{machine.cores} cores" if machine.cores else ""
    memory = f"{machine.memory_bytes / 2**30:.0f} GB" if machine.memory_bytes else ""
    features = " ".join(machine.cpu_features)
    last = environment.conditions[-1] if environment.conditions else None
    load = []
    if last is not None and last.load_average is not None:
        load.append(f"{last.load_average:.1f} on average over one minute")
    if last is not None and last.cpu_pressure_percent is not None:
        load.append(f"CPU pressure {last.cpu_pressure_percent:.0f} %")
    timing = next((variant.timings[0] for variant in run.variants if variant.timings), None)
    size = "" if timing is None else f"{timing.height_px}x{timing.width_px} pixels, {len(timing.samples_ms)} rounds"
    runtimes = {one.runtime: f"{one.runtime} {one.runtime_version}" for one in run.variants if one.runtime_version}
    return [
        ("machine", ", ".join(filter(None, (machine.model, machine.cpu, cores, memory, machine.architecture)))),
        ("accelerators", ", ".join(machine.accelerators)),
        ("CPU features", features),
        ("system", machine.system),
        ("runtimes", ", ".join(runtimes.values())),
        ("versions", ", ".join(f"{name} {version}" for name, version in environment.versions.items())),
        ("threads", "chosen by the runtime" if environment.threads is None else str(environment.threads)),
        ("power mode", environment.power_mode),
        ("load at the end", ", ".join(load)),
        ("timed on", size),
        ("measured", f"{run.started}, in {run.duration_s:.0f} s, by {run.client.name} {run.client.version}"),
        ("bundle", ", ".join(dict.fromkeys(filter(None, (bundle.name, bundle.source))))),
        ("bundle digest", bundle.digest),
        ("run", run.id),
    ]


def _remark(one: VariantSummary) -> str:
    """Return why a variant has no numbers, or why it is slow or not recommended; empty for the others."""
    result = one.result
    if result.error:
        return f"{one.name} was not measured: {result.error}"
    found = [result.not_recommended] if result.not_recommended else []
    if one.speed is not None and one.speed < 1 and result.slower_because:
        found.append(f"{one.speed:.2f} times as fast as {one.compared_with}; {result.slower_because}")
    return f"{one.name}: {'; '.join(found)}" if found else ""
