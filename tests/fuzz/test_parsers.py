"""Every parser turns every damage into an error of ours, in little time and memory.

`make test` tries some inputs per parser, and all that once were findings; `make fuzz` runs campaign.py, which tries
many more, in processes of their own. A failure names the parser and the number of the input, which is the same at
every run.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest
from fuzz_targets import corpus_of, findings_of, targets
from fuzzing import examine
from mutation import mutations

if TYPE_CHECKING:
    from pathlib import Path

INPUTS = {
    "bundle": 30,
    "OpenVINO IR": 20,
    "Core ML": 15,
    "checkpoint": 60,
    "raw": 30,
    "ONNX": 100,
    "set": 60,
    "ranges": 60,
}
"""Inputs of parsers that take longer than the others."""
DEFAULT_INPUTS = 150


def require(parser: str) -> None:
    for package in targets()[parser].needs:
        if find_spec(package) is None:
            pytest.skip(f"needs {package}: make test installs it")


@pytest.fixture(autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the cache of the user out of it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("parser", targets())
def test_sound_and_damaged_inputs_are_read_or_refused_with_an_error_of_ours(parser: str, tmp_path: Path) -> None:
    require(parser)
    target, corpus = targets()[parser], corpus_of(parser)
    inputs = [*corpus, *mutations(corpus, 0, INPUTS.get(parser, DEFAULT_INPUTS), target.change)]
    for number, data in enumerate(inputs):
        finding = examine(target, data, tmp_path)
        assert finding is None, f"{parser}, input {number}: {finding}"


@pytest.mark.parametrize(("parser", "name"), [(parser, name) for parser in targets() for name in findings_of(parser)])
def test_what_was_found_once_stays_fixed(parser: str, name: str, tmp_path: Path) -> None:
    require(parser)
    finding = examine(targets()[parser], findings_of(parser)[name], tmp_path)
    assert finding is None, finding


@pytest.mark.parametrize("parser", targets())
def test_the_target_reads_its_sound_inputs(parser: str, tmp_path: Path) -> None:
    """A target that refused everything would find nothing."""
    require(parser)
    from edgedenoise.errors import EdgeDenoiseError

    read = 0
    for number, data in enumerate(corpus_of(parser)):
        folder = tmp_path / str(number)
        folder.mkdir()
        try:
            targets()[parser].parse(data, folder)
        except EdgeDenoiseError as error:
            refused = str(error)
        else:
            read += 1
    assert read, refused


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "m" * 5000 + ".onnx"])
def test_names_that_no_file_can_have_are_errors_of_ours(name: str) -> None:
    import edgedenoise
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.errors import EdgeDenoiseError

    with pytest.raises(EdgeDenoiseError):
        edgedenoise.load(name)
    with pytest.raises(EdgeDenoiseError):
        Bundle.open(name)
