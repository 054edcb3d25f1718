"""The page of results shows the record of the last campaign."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="the campaign limits its processes as POSIX systems do")


def test_the_page_shows_the_record() -> None:
    specification = importlib.util.spec_from_file_location("campaign", Path(__file__).with_name("campaign.py"))
    assert specification is not None
    assert specification.loader is not None
    campaign = importlib.util.module_from_spec(specification)
    sys.modules["campaign"] = campaign  # dataclasses look their module up
    specification.loader.exec_module(campaign)
    record = json.loads(campaign.RECORD.read_text(encoding="utf-8"))
    assert campaign.section(record) in campaign.PAGE.read_text(encoding="utf-8")
