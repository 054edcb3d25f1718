"""Write checks as JUnit XML, which CI systems show as test results."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree

from edgedenoise.printable import printable

if TYPE_CHECKING:
    from edgedenoise.evaluation.limits import LimitsReport


def junit_xml(report: LimitsReport) -> bytes:
    """Return a report as JUnit XML: one test case per check, grouped by variant.

    Example:
        >>> import edgedenoise
        >>> junit_xml(edgedenoise.check_limits("edge-tiny"))[:38]
        b"<?xml version='1.0' encoding='utf-8'?>"
    """
    counts = {
        "tests": len(report.outcomes),
        "failures": len(report.failures),
        "skipped": sum(one.status == "not run" for one in report.outcomes),
        "errors": 0,
    }
    attributes = {
        "name": printable(f"edgedenoise {report.bundle}"),
        "timestamp": report.run.started.rstrip("Z"),
        "hostname": printable(report.run.machine.label),
        "time": f"{sum(one.seconds for one in report.outcomes):.3f}",
        **{name: str(count) for name, count in counts.items()},
    }
    suite = ElementTree.Element("testsuite", attributes)
    for one in report.outcomes:
        case = ElementTree.SubElement(
            suite, "testcase", classname=one.variant or "bundle", name=one.name, time=f"{one.seconds:.3f}"
        )
        message = printable(one.message)
        if one.status == "failed":
            ElementTree.SubElement(case, "failure", message=message).text = message
        elif one.status == "not run":
            ElementTree.SubElement(case, "skipped", message=message)
        else:
            ElementTree.SubElement(case, "system-out").text = message
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"
