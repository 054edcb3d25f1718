"""Write the JSON Schema of result files, from the structs of `edgedenoise.evaluation.results`.

    python tools/result_schema.py

tests/project/test_result_schema.py compares the file with the structs.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

import msgspec

from edgedenoise.evaluation import results

TARGET = Path(__file__).resolve().parents[1] / "docs" / "reference" / "edgedenoise-result-1.schema.json"


def schema() -> bytes:
    """Return the JSON Schema, with the docstring of each class and field as its description."""
    found = msgspec.json.schema(results.ResultFile, ref_template="#/$defs/{name}")
    documents = field_documents()
    for name, definition in found["$defs"].items():
        describe(definition, documents.get(name, {}))
    found["$defs"]["ResultFile"]["properties"]["schema"] = {"const": results.SCHEMA}
    found["$defs"]["ResultFile"]["required"] = ["schema", "runs"]
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://edgedenoise.github.io/edgedenoise/reference/edgedenoise-result-1.schema.json",
        "title": results.SCHEMA,
    }
    return msgspec.json.format(msgspec.json.encode({**head, **found}), indent=2) + b"\n"


def describe(definition: dict[str, Any], documents: dict[str, str]) -> None:
    """Add the docstrings of the fields to the definition of a class."""
    for field, entry in definition["properties"].items():
        if field in documents:
            entry["description"] = documents[field]


def field_documents() -> dict[str, dict[str, str]]:
    """Return the docstring of each field by class and field, read from the source."""
    tree = ast.parse(inspect.getsource(results))
    found: dict[str, dict[str, str]] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        fields = found.setdefault(node.name, {})
        for field, text in zip(node.body, node.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                fields[ast.unparse(field.target)] = inspect.cleandoc(str(text.value.value)).replace("\n", " ")
    return found


if __name__ == "__main__":
    TARGET.write_bytes(schema())
