"""The HTML report: one file with verdicts, crops, plots and tables, and the raw results as JSON beside it.

The page needs no network. Its only script and style are named by their hashes in a content security policy, which
refuses everything else.
"""

from __future__ import annotations

import base64
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgedenoise.atomic import check_writable, write_bytes
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.errors import OutputError, UsageError
from edgedenoise.evaluation.compare import CompareReport, compare
from edgedenoise.evaluation.joining import load_runs
from edgedenoise.evaluation.measurement import FLOAT_PRECISIONS
from edgedenoise.evaluation.report.columns import EXPLANATIONS, image_columns, image_rows, present_measures
from edgedenoise.evaluation.report.crops import Source, choose_crops
from edgedenoise.evaluation.report.layer_chart import PlanChart, plan_charts
from edgedenoise.evaluation.report.markdown import markdown
from edgedenoise.evaluation.report.view import commands, device_view, latest_tests, shown_runs
from edgedenoise.evaluation.result_files import encoded
from edgedenoise.evaluation.results import SCHEMA, ResultFile
from edgedenoise.extras import missing_package
from edgedenoise.imaging.folders import list_images
from edgedenoise.progress import Progress, silent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from typing_extensions import Unpack

    from edgedenoise.evaluation.compare import CompareOptions
    from edgedenoise.evaluation.report.crops import Crop
    from edgedenoise.evaluation.results import Run

TEMPLATES = Path(__file__).with_name("templates")
_OFFERED_VARIANTS = 6
"""Variants of a crop in the page: each adds about 200 kilobytes."""


def compare_to_html(
    bundle: Path | str,
    noisy: Path | str,
    clean: Path | str | None,
    out: Path | str,
    *,
    keep: Path | None = None,
    progress: Progress = silent,
    **options: Unpack[CompareOptions],
) -> CompareReport:
    """Run `compare`, and write its report as HTML and, beside it, its results as JSON.

    Args:
        bundle: as in `compare`.
        noisy: as in `compare`.
        clean: as in `compare`.
        out: the HTML file to write; the result file has the same name with the suffix `.json`.
        keep: folder for the denoised images; None to not keep them.
        progress: as in `compare`.
        **options: other options of `compare`.

    Returns:
        The report of `compare`.

    Raises:
        UsageError: `out` does not end in `.html`.
        OutputError: `out` or the JSON file cannot be written, or the JSON file exists and belongs to no report.
        RuntimeUnavailableError: jinja2 is not installed.
        EdgeDenoiseError: as in `compare`.
    """
    templates()  # first, so that a missing package or a wrong output does not cost minutes
    json_file = _checked_json_file(Path(out))
    with tempfile.TemporaryDirectory() as folder:
        kept = keep or Path(folder)
        report = compare(bundle, noisy, clean, keep=kept, progress=progress, **options)
        truths = None if clean is None else Path(clean)
        crops = choose_crops(_sources(report.run, Path(noisy), truths, kept))
    page = render([report.run], crops, plan_charts(Bundle.open(bundle)), file_name=Path(out).stem)
    write_bytes(Path(out), page.encode())
    write_bytes(json_file, encoded(ResultFile(runs=(report.run,))))
    return report


def report_of(results: Sequence[Path], out: Path) -> list[Run]:
    """Write one report of the result files of any number of devices.

    Args:
        results: result files, and folders of them.
        out: file to write: `.html` for a page, `.md` for Markdown.

    Returns:
        The runs that are shown: of each device and bundle the latest one with images, otherwise the latest. The page
        also has the checks of the latest `edgedenoise test` of each.

    Raises:
        UsageError: `out` has another suffix.
        OutputError: `out` cannot be written.
        ResultFileError: a result file cannot be read, or there are none.
        RuntimeUnavailableError: jinja2 is not installed.

    Example:
        >>> from pathlib import Path
        >>> import edgedenoise
        >>> from edgedenoise.evaluation.result_files import append_runs
        >>> append_runs(Path("laptop.json"), [edgedenoise.bench("mine.edge", shape=(64, 64), repeats=2).run])
        >>> [run.command for run in report_of([Path("laptop.json")], Path("devices.md"))]
        ['bench']
    """
    if out.suffix.lower() not in {".html", ".md"}:
        raise UsageError(
            f"the report cannot be written to {out}: expected a name that ends in .html or .md, got {out.name}",
            hint=f"Name it {out.with_suffix('.html')}",
        )
    check_writable(out)
    found = load_runs(results)
    runs = shown_runs(found)
    tests = latest_tests(found, runs)
    if out.suffix.lower() == ".html":
        text = render(runs, tests=tests, file_name=out.stem)
    else:
        text = markdown(_title(runs), [device_view(run, tests) for run in runs], commands([*runs, *tests]))
    write_bytes(out, text.encode())
    return runs


def render(
    runs: Sequence[Run],
    crops: Sequence[Crop] = (),
    plans: Sequence[PlanChart] = (),
    *,
    tests: Sequence[Run] = (),
    file_name: str = "report",
) -> str:
    """Return the page of one or several runs, one per device.

    Args:
        runs: at least one; the page shows each as a device.
        crops: crops to show; none where the images are not at hand.
        plans: charts of the layers of variants that were quantized within a budget.
        tests: runs of `edgedenoise test` on these devices, whose checks are shown.
        file_name: name of the downloaded files, without a suffix.

    Raises:
        RuntimeUnavailableError: jinja2 is not installed.
    """
    devices = [device_view(run, tests) for run in runs]
    everything = {run.id: run for run in (*runs, *tests)}.values()
    summaries = [device.summary for device in devices]
    title = _title(runs)
    repeating = commands(everything)
    style, script = (TEMPLATES.joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    result = encoded(ResultFile(runs=tuple(everything))).decode()
    page: str = (
        templates()
        .get_template("page.html.j2")
        .render(
            title=title,
            subtitle=_subtitle(runs),
            devices=devices,
            crops=crops,
            plans=plans,
            image_columns=image_columns(summaries),
            fixed_columns=["device", "image", "variant"][len(devices) == 1 :],
            image_rows=image_rows(summaries),
            variant_names=list(dict.fromkeys(one.name for summary in summaries for one in summary.variants)),
            has_truth=any(summary.has_truth for summary in summaries),
            explanations=[EXPLANATIONS[name] for name in present_measures(summaries)],
            commands=repeating,
            style=_raw(style),
            style_hash=_hash(style),
            script=_raw(script),
            script_hash=_hash(script),
            json_text=_raw(script_json(result)),
            markdown_text=_raw(script_json(markdown(title, devices, repeating))),
            schema=SCHEMA,
            file_name=file_name,
        )
    )
    return page


def script_json(text: str) -> str:
    r"""Return a text as a JSON string that can stand in a script element.

    Example:
        >>> script_json("</script>")
        '"\\u003c/script\\u003e"'
    """
    encoded_text = msgspec.json.encode(text).decode()
    for character in "<>&\u2028\u2029":
        encoded_text = encoded_text.replace(character, f"\\u{ord(character):04x}")
    return encoded_text


def templates() -> Any:
    """Return the jinja2 environment with the templates of the page.

    Raises:
        RuntimeUnavailableError: jinja2 is not installed.
    """
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise (missing_package(error) or error) from error
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _raw(text: str) -> Any:
    """Return a text of our own that is not escaped."""
    import markupsafe  # a dependency of jinja2

    return markupsafe.Markup(text)  # noqa: S704  (no text of users: scripts, styles and escaped JSON)


def _hash(text: str) -> str:
    """Return the SHA-256 that a content security policy names a script or style by."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _title(runs: Sequence[Run]) -> str:
    names = list(dict.fromkeys(run.bundle.name for run in runs))
    where = f" on {len(runs)} devices" if len(runs) > 1 else ""
    return f"{', '.join(names)}: INT8 against float{where}"


def _subtitle(runs: Sequence[Run]) -> str:
    run = runs[0]
    pixels = sum(image.height_px * image.width_px for image in run.images) / 1e6
    count = len(run.images)
    parts = [run.bundle.network]
    if run.bundle.macs_per_px:
        parts.append(f"{run.bundle.macs_per_px:,} multiply-accumulates per pixel")
    if count:
        parts.append(f"{count} image{'' if count == 1 else 's'}, {pixels:.1f} megapixels")
    return "; ".join([*filter(None, parts), max(one.started for one in runs)[:10]])


def _sources(run: Run, noisy: Path, clean: Path | None, kept: Path) -> Iterator[Source]:
    """Yield the images of a comparison with the files of all versions."""
    truths = {} if clean is None else {path.stem: path for path in list_images(clean)}
    for path in list_images(noisy):
        results = {one.name: kept / one.name / f"{path.stem}.png" for one in run.variants}
        results = {name: file for name, file in results.items() if file.is_file()}
        floats = {one.name for one in run.variants if one.precision in FLOAT_PRECISIONS}
        reference = FLOAT_VARIANT if FLOAT_VARIANT in results else next((n for n in results if n in floats), "")
        others = [name for name in results if name != reference]
        integers = [name for name in others if name not in floats][:_OFFERED_VARIANTS]
        more = [name for name in others if name in floats][: max(0, _OFFERED_VARIANTS - len(integers))]
        yield Source(
            name=path.name,
            noisy=path,
            reference=reference,
            float_result=results.get(reference),
            integer_results={name: results[name] for name in integers},
            other_results={name: results[name] for name in more},
            truth=truths.get(path.stem),
        )


def _checked_json_file(out: Path) -> Path:
    """Return the result file of a report, after checking that it and the page can be written.

    Raises:
        UsageError: `out` does not end in `.html`.
        OutputError: a file cannot be written, or the JSON file exists and belongs to no report.
    """
    if out.suffix.lower() != ".html":
        raise UsageError(
            f"the report cannot be written to {out}: expected a name that ends in .html, got {out.name}",
            hint=f"Name it {out.with_suffix('.html')}",
        )
    json_file = out.with_suffix(".json")
    if json_file.exists() and not out.exists():
        raise OutputError(
            f"{json_file} exists and belongs to no report, so it is not overwritten",
            hint="Choose another name with -o, or remove it first.",
        )
    for file in (out, json_file):
        check_writable(file)
    return json_file
