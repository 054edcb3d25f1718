"""A pytest plugin: `pytest --edgedenoise-bundle my.edge` tests a bundle, one test per check.

The checks are those of `edgedenoise test`. pytest loads the plugin through the entry-point group `pytest11`. It imports
nothing else of edgedenoise until the option is used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgedenoise.evaluation.checks import BundleChecks, CheckOptions, PlannedCheck

_CHECKS = pytest.StashKey[list["BundleChecks"]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("edgedenoise", "tests of edgedenoise bundles")
    texts = {
        "bundle": "bundle to test: a folder, an archive or the name of a shipped bundle; repeatable",
        "noisy": "folder of noisy images; default: the image of the self-test",
        "clean": "folder of their ground truth, under the same names",
        "max-drop": "largest loss of PSNR against float in dB, in the mean; three times as much on one image",
        "min-psnr": "least PSNR to the float output in dB, on each image",
        "max-levels": "largest difference to the float output in 8-bit levels; default: 32",
        "max-ms": "largest median time of a call at 512x512 in milliseconds",
        "baseline": "result file of this device; the speed against float must not have become worse",
    }
    for name, text in texts.items():
        if name == "bundle":
            group.addoption(f"--edgedenoise-{name}", action="append", default=[], metavar="BUNDLE", help=text)
        else:
            kind = float if name.startswith(("max", "min")) else Path
            group.addoption(f"--edgedenoise-{name}", type=kind, default=None, help=text)


@pytest.hookimpl(tryfirst=True)  # before `-k` and `-m` deselect tests
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the checks of each bundle to the collected tests."""
    for bundle in config.getoption("edgedenoise_bundle"):
        collector = BundleCollector.from_parent(session, name=str(bundle), nodeid=str(bundle))
        items.extend(collector.collect())


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a session in which no variant of a bundle could be run: nothing was tested."""
    if _untested(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Write a line for each bundle of which nothing could be run."""
    for bundle in _untested(config):
        terminalreporter.write_line(f"edgedenoise: no variant of {bundle} could be run here", red=True)


def _untested(config: pytest.Config) -> list[Path]:
    """Return the bundles whose checks were all skipped."""
    return [
        checks.bundle.source
        for checks in config.stash.get(_CHECKS, [])
        if {outcome.status for outcome in checks.outcomes if outcome.variant} == {"not run"}
    ]


class BundleCollector(pytest.Collector):
    """The checks of one bundle."""

    def collect(self) -> Iterator[pytest.Item]:
        """Yield one test per check, from the manifest alone."""
        from edgedenoise.bundles.bundle import Bundle
        from edgedenoise.errors import EdgeDenoiseError
        from edgedenoise.evaluation.checks import BundleChecks

        try:
            checks = BundleChecks(Bundle.open(self.name), _options(self.config))
        except EdgeDenoiseError as error:
            raise pytest.UsageError(error.one_line) from error
        self.config.add_cleanup(checks.close)
        self.config.stash.setdefault(_CHECKS, []).append(checks)
        for planned in checks.plan():
            yield BundleItem.from_parent(self, name=str(planned), checks=checks, planned=planned)


class BundleItem(pytest.Item):
    """One check."""

    def __init__(self, *, checks: BundleChecks, planned: PlannedCheck, **more: Any) -> None:
        super().__init__(**more)
        self._checks = checks
        self._planned = planned

    def runtest(self) -> None:
        """Run the check.

        Raises:
            CheckError: the check failed.
        """
        outcome = self._checks.run(self._planned)
        self.add_report_section("call", "edgedenoise", outcome.line)
        if outcome.status == "failed":
            raise CheckError(outcome.message)
        if outcome.status == "not run":
            pytest.skip(outcome.message)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Return the message of a failed check; other errors have their traceback."""
        if isinstance(excinfo.value, CheckError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Return what pytest shows as the place of the test."""
        return Path(self.parent.name if self.parent is not None else ""), None, self.name


class CheckError(Exception):
    """A check failed."""


def _options(config: pytest.Config) -> CheckOptions:
    from edgedenoise.bundles.manifest import Limits
    from edgedenoise.evaluation.checks import CheckOptions

    def option(name: str) -> Any:
        return config.getoption(f"edgedenoise_{name}")

    limits = Limits(
        max_drop_db=option("max_drop"),
        min_psnr_db=option("min_psnr"),
        max_error_lsb=option("max_levels"),
        max_ms=option("max_ms"),
    )
    return CheckOptions(limits, noisy=option("noisy"), clean=option("clean"), baseline=option("baseline"))
