"""The command line run in the process of a test."""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Protocol


class Done(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Read stdout as strict JSON: no NaN, no Infinity, nothing beside it."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        return json.loads(self.out, parse_constant=refuse)

    def records(self) -> list[Any]:
        """Read stdout as JSON lines."""
        return [self._replace(out=line).json() for line in self.out.splitlines()]


class Run(Protocol):
    def __call__(self, *arguments: object) -> Done:
        """Run the command line in this process."""
