"""The tables about the shipped bundles are the recorded ones, and the record is of the bundles that are shipped."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.pretrained import SHIPPED

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
RECORD = json.loads((ROOT / "docs" / "results" / "shipped.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("shipped_numbers", ROOT / "benchmarks" / "shipped_numbers.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    return module


@pytest.mark.parametrize("section", ["rounding", "coreml"])
def test_the_tables_of_the_pages_are_the_recorded_ones(script: ModuleType, section: str) -> None:
    page = script.PAGES[section].read_text(encoding="utf-8")
    assert script.page_with(page, section, script.sections(RECORD)[section]) == page


def test_the_record_is_of_the_bundles_that_are_shipped() -> None:
    measured = {name: entry["digest"] for name, entry in RECORD["bundles"].items()}
    shipped = {name: Bundle.open(name).manifest.digest for name in SHIPPED}
    assert measured == shipped, "measure again: python benchmarks/shipped_numbers.py --record"
