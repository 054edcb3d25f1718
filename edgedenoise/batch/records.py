"""Records of a run as JSON lines: one per file while it runs, and a summary at the end.

The schema is documented in docs/reference/records.md. Fields are added, and never removed or given another meaning.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgedenoise.batch.results import BatchReport, FileResult


def file_record(result: FileResult) -> dict[str, Any]:
    """Return the record of one file.

    Example:
        >>> from pathlib import Path
        >>> from edgedenoise.batch.results import FileResult
        >>> record = file_record(FileResult(Path("a.png"), Path("b.png"), width=4000, height=3000))
        >>> record["record"], record["megapixels"]
        ('file', 12.0)
    """
    return {
        "record": "file",
        "source": result.source,
        "output": result.output,
        "width": result.width,
        "height": result.height,
        "megapixels": result.megapixels,
        "seconds": {stage: _rounded(seconds) for stage, seconds in asdict(result.seconds).items()},
        "variant": result.variant,
        "float_reason": result.float_reason,
        "noise": result.noise,
        "notes": result.notes,
        "error": result.error,
    }


def summary_record(report: BatchReport) -> dict[str, Any]:
    """Return the record that ends a run."""
    return {
        "record": "summary",
        "variant": report.variant,
        "effective": report.effective,
        "counts": report.counts,
        "megapixels": round(sum(file.megapixels or 0 for file in report.files if file.error is None), 6),
        "seconds": _rounded(report.seconds),
        "left_out": report.left_out,
        "passed_over": report.passed_over,
        "float_instead_of": report.float_instead_of,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
