"""The OpenAPI document of the HTTP API."""

from __future__ import annotations

from typing import Any, Final

import edgedenoise
from edgedenoise.batch.single import FORMAT_NAMES
from edgedenoise.evaluation.results import SCHEMA

IMAGE_TYPES: Final = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "AVIF": "image/avif",
    "HEIF": "image/heic",
    "PPM": "image/x-portable-pixmap",
    "NPY": "application/octet-stream",
}
"""Media type of each format that is written."""


def document(models: list[str], max_upload: int) -> dict[str, Any]:
    """Return the document.

    Args:
        models: names of the models, the default first.
        max_upload: bytes of the largest image.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edgedenoise",
            "version": edgedenoise.__version__,
            "description": "Denoise images, and collect what devices measured.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": {
            "/denoise": {"post": _denoise(models, max_upload)},
            "/api/models": {"get": _get("List the models.", {"type": "array", "items": {"type": "object"}})},
            "/api/limits": {"get": _limits(models)},
            "/api/results": {
                "get": {
                    **_get("List the results of the device lab.", {"type": "array", "items": _ref("Judged")}),
                    "parameters": [
                        _query("since", "Only results after this number.", {"type": "integer", "minimum": 0})
                    ],
                },
                "post": _results(),
            },
            "/healthz": {"get": _get("Say whether the server runs.", {"type": "object"})},
            "/metrics": {
                "get": {
                    "summary": "Return counters for Prometheus.",
                    "responses": {"200": {"description": "Metrics.", "content": {"text/plain": {"schema": _TEXT}}}},
                }
            },
        },
        "components": {"schemas": {"Error": _ERROR, "Judged": _JUDGED, "Outcome": _OUTCOME}},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_TEXT: Final = {"type": "string"}
_ERROR: Final = {
    "type": "object",
    "properties": {
        "error": {"type": "string", "description": "Class of the error, as in Python and on the command line."},
        "message": {"type": "string"},
        "hint": {"type": ["string", "null"], "description": "What to do next."},
    },
    "required": ["error", "message", "hint"],
}
_OUTCOME: Final = {
    "type": "object",
    "properties": {
        "name": _TEXT,
        "variant": _TEXT,
        "status": {"enum": ["passed", "failed", "not run"]},
        "message": _TEXT,
        "value": {"type": ["number", "null"]},
        "limit": {"type": ["number", "null"]},
        "unit": _TEXT,
    },
    "required": ["name", "status", "message"],
}
_JUDGED: Final = {
    "type": "object",
    "properties": {
        "number": {"type": "integer", "minimum": 1},
        "run": _TEXT,
        "device": _TEXT,
        "bundle": _TEXT,
        "passed": {"type": "boolean"},
        "file": _TEXT,
        "times": _TEXT,
        "outcomes": {"type": "array", "items": {"$ref": "#/components/schemas/Outcome"}},
    },
    "required": ["number", "run", "device", "bundle", "passed", "file", "times", "outcomes"],
}


def _query(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _answers(*codes: int) -> dict[str, Any]:
    return {
        str(code): {"description": _MEANING[code], "content": {"application/json": {"schema": _ref("Error")}}}
        for code in codes
    }


_MEANING: Final = {
    400: "A parameter is not accepted.",
    404: "There is no such model.",
    409: "The model has no variant that fits the request.",
    413: "The request is too large.",
    422: "The data are no image, or the format cannot hold it.",
    503: "The server is busy, or a runtime is missing.",
}


def _get(summary: str, schema: dict[str, Any]) -> dict[str, Any]:
    ok = {"description": "The answer.", "content": {"application/json": {"schema": schema}}}
    return {"summary": summary, "responses": {"200": ok, **_answers(400)}}


def _limits(models: list[str]) -> dict[str, Any]:
    return {
        "summary": "Return the limits that a device has to keep.",
        "parameters": [_query("model", "Name of a model.", {"enum": models})],
        "responses": {
            "200": {"description": "The limits.", "content": {"application/json": {"schema": {"type": "object"}}}},
            **_answers(404),
        },
    }


def _results() -> dict[str, Any]:
    return {
        "summary": "Hand in what a device measured.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "description": f"A result file of the schema {SCHEMA}; see docs/reference/result-format.md.",
                        "properties": {"schema": {"const": SCHEMA}, "runs": {"type": "array"}},
                        "required": ["schema", "runs"],
                    }
                }
            },
        },
        "responses": {
            "201": {
                "description": "How each run was judged.",
                "content": {"application/json": {"schema": {"type": "array", "items": _ref("Judged")}}},
            },
            **_answers(400, 413, 422),
        },
    }


def _denoise(models: list[str], max_upload: int) -> dict[str, Any]:
    binary = {"schema": {"type": "string", "format": "binary", "maxLength": max_upload}}
    return {
        "summary": "Denoise an image.",
        "description": f"The body is an image file of at most {max_upload} bytes; its content decides its format.",
        "parameters": [
            _query("model", "Name of a model; default: the first.", {"enum": models}),
            _query(
                "strength",
                "How much noise to remove: 0 to 1, or to 2 for networks that take the noise level.",
                {"type": "number", "minimum": 0, "maximum": 2, "default": 1},
            ),
            _query("precision", "Precision.", {"enum": ["auto", "fp32", "fp16", "int8", "w8a16"], "default": "auto"}),
            _query("format", "Format of the answer; default: that of the image.", {"enum": list(FORMAT_NAMES)}),
        ],
        "requestBody": {"required": True, "content": {"application/octet-stream": binary, "image/*": binary}},
        "responses": {
            "200": {
                "description": "The denoised image.",
                "headers": {
                    "x-edgedenoise-variant": {"description": "Variant that ran.", "schema": _TEXT},
                    "server-timing": {"description": "Milliseconds of each stage.", "schema": _TEXT},
                },
                "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in _ANSWER_TYPES},
            },
            **_answers(400, 404, 409, 413, 422, 503),
        },
    }


_ANSWER_TYPES: Final = sorted(set(IMAGE_TYPES.values()))
