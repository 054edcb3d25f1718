"""The page of results shows the records of the last `make faults` and `make soak`."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest


@pytest.mark.parametrize("name", ["faults", "soak"])
def test_the_page_shows_the_record(name: str) -> None:
    specification = importlib.util.spec_from_file_location("record", Path(__file__).with_name("record.py"))
    assert specification is not None
    assert specification.loader is not None
    record = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(record)
    found = json.loads(record.RECORD.read_text(encoding="utf-8"))[name]
    assert record.section(name, found) in record.PAGE.read_text(encoding="utf-8")
