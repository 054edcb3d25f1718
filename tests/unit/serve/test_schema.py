"""The API keeps to the document that describes it: schemathesis makes the requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")

from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance
from serving import running

from edgedenoise.serve.openapi import document

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = schemathesis.openapi.from_dict(document(["edge-tiny"], 1 << 20))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server, which gets all requests."""
    with running(tmp_path_factory.mktemp("server"), "--max-upload", "1048576") as (_, found):
        yield found


@SCHEMA.parametrize()
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
def test_answers_are_as_described(case: schemathesis.Case, address: str) -> None:
    # bytes that fit the schema of an image need not be one, and a result of another bundle is refused
    case.call_and_validate(base_url=address, excluded_checks=[positive_data_acceptance])


def test_the_document_that_is_served_is_this_one(address: str) -> None:
    import httpx2

    served = httpx2.get(f"{address}openapi.json").json()
    assert served == document(["edge-tiny"], 1 << 20)
