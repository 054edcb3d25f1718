"""The public names and their signatures equal golden/public_api.txt, which changes on purpose only."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

import edgedenoise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conftest import Golden


class _Text:
    """Text that is printed without quotes inside a signature."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _annotation(annotation: object) -> object:
    if annotation is inspect.Signature.empty:
        return annotation
    return _Text(annotation if isinstance(annotation, str) else inspect.formatannotation(annotation))


def _default(default: object) -> object:
    """Return what a default is printed as: a function by its name, not its address."""
    return _Text(default.__name__) if inspect.isfunction(default) else default


def signature(function: Any) -> str:
    found = inspect.signature(function)
    parameters = [
        each.replace(annotation=_annotation(each.annotation), default=_default(each.default))
        for each in found.parameters.values()
    ]
    return str(found.replace(parameters=parameters, return_annotation=_annotation(found.return_annotation)))


def members(kind: type) -> Iterator[str]:
    """Yield the public methods and properties that a class defines itself."""
    for name, member in sorted(vars(kind).items()):
        is_promised_dunder = name in (
            "__call__",
            "__enter__",
            "__exit__",
            "__iter__",
            "__len__",
            "__getitem__",
        )
        if name.startswith("_") and not is_promised_dunder:
            continue
        if isinstance(member, (classmethod, staticmethod)):
            yield f"{type(member).__name__} {name}{signature(member.__func__)}"
        elif isinstance(member, property) and member.fget is not None:
            yield f"property {name}{signature(member.fget)}"
        elif inspect.isfunction(member):
            yield f"def {name}{signature(member)}"


def describe(name: str) -> str:
    value = getattr(edgedenoise, name)
    if inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__)
        return "\n    ".join([f"class {name}({bases})", f"def __init__{signature(value)}", *members(value)])
    if callable(value):
        return f"def {name}{signature(value)}"
    return f"{name}: {type(value).__name__}"


def test_public_names_and_signatures_are_the_golden_ones(golden: Golden) -> None:
    golden("public_api.txt", "\n\n".join(describe(name) for name in edgedenoise.__all__) + "\n")


@pytest.mark.parametrize("name", edgedenoise.__all__)
def test_a_public_name_resolves_and_is_explained(name: str) -> None:
    value = getattr(edgedenoise, name)
    if callable(value):
        assert value.__name__ == name
        assert (value.__doc__ or "").strip(), f"edgedenoise.{name} has no docstring"


def test_public_names_are_listed_and_nothing_else() -> None:
    assert dir(edgedenoise) == sorted(edgedenoise.__all__)


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'denoize'.*denoise_files"):
        _ = edgedenoise.denoize


@pytest.mark.parametrize(("old", "new"), sorted(edgedenoise._DEPRECATED.items()))
def test_an_old_name_still_works_and_names_the_new_one(old: str, new: str) -> None:
    with pytest.warns(DeprecationWarning, match=rf"edgedenoise\.{old} is deprecated.*use edgedenoise\.{new}$"):
        value = getattr(edgedenoise, old)
    assert value is getattr(edgedenoise, new)
    assert old not in edgedenoise.__all__


def test_old_names_are_removed_when_their_version_is_reached() -> None:
    due = version_tuple(edgedenoise._DEPRECATED_UNTIL)
    assert version_tuple(edgedenoise.__version__) < due or not edgedenoise._DEPRECATED, (
        f"edgedenoise {edgedenoise.__version__}: remove the names in edgedenoise._DEPRECATED"
    )


def version_tuple(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3])
