"""The published JSON Schema of result files is that of the structs, and what Python writes keeps to it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import edgedenoise
from edgedenoise.evaluation.result_files import append_runs

ROOT = Path(__file__).resolve().parents[2]


def tool() -> Any:
    spec = importlib.util.spec_from_file_location("result_schema", ROOT / "tools" / "result_schema.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_published_schema_is_that_of_the_structs(request: pytest.FixtureRequest) -> None:
    schema = tool()
    if request.config.getoption("--update-golden"):
        schema.TARGET.write_bytes(schema.schema())
    assert schema.TARGET.read_bytes() == schema.schema(), "run: python tools/result_schema.py"


def test_the_page_names_every_struct_of_the_schema() -> None:
    definitions = json.loads(tool().TARGET.read_text(encoding="utf-8"))["$defs"]
    page = (ROOT / "docs" / "reference" / "result-format.md").read_text(encoding="utf-8")
    assert [name for name in definitions if f"`{name}`" not in page] == []


def test_what_bench_writes_keeps_to_the_schema(tmp_path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="to validate, install: pip install jsonschema")
    schema = json.loads(tool().TARGET.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    out = tmp_path / "result.json"
    append_runs(out, [edgedenoise.bench(ROOT / "tests" / "fixtures" / "tiny.edge", shape=32, repeats=1).run])
    written = json.loads(out.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(written)
    written["runs"][0]["variants"][0]["size_bytes"] = "many"
    with pytest.raises(jsonschema.ValidationError, match="'many' is not of type 'integer'"):
        jsonschema.Draft202012Validator(schema).validate(written)
