"""The command of a hint is the one of the user, with every option."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer

import edgedenoise
from edgedenoise.batch.command import RunCommand
from edgedenoise.batch.run import without_defaults
from edgedenoise.cli import app

if TYPE_CHECKING:
    from command_line import Run

OPTIONS: tuple[tuple[str, ...], ...] = (
    ("--model", "mine.edge"),
    ("-r",),
    ("--overwrite",),
    ("--skip-existing",),
    ("--runtime", "onnxruntime"),
    ("--precision", "int8"),
    ("--device", "cpu"),
    ("--tile", "256"),
    ("--strength", "0.5"),
    ("--noise", "12.5"),
    ("--threads", "3"),
    ("--quality", "80"),
    ("--compression", "lzw"),
    ("--max-pixels", "1000"),
    ("--convert-cmyk",),
    ("--raw", "linear"),
    ("--trust-engine",),
    ("--max-memory", "1.5GB"),
    ("--engine", "ray"),
    ("--codec", "hevc"),
    ("--crf", "20"),
    ("--hwaccel", "cuda"),
    ("--reuse",),
)
"""Each option of `edgedenoise denoise` that changes the result, as a user gives it."""


@pytest.fixture
def called(run: Run, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what a command line passes to `denoise_files`."""

    class Called(Exception):
        pass

    def denoise_files(inputs: list[Path], out: Path, model: Path, **options: Any) -> None:
        given.update(inputs=tuple(inputs), out=out, options={"model": model, **options})
        raise Called

    given: dict[str, Any] = {}
    monkeypatch.setattr(edgedenoise, "denoise_files", denoise_files)

    def options_of(*words: str) -> dict[str, Any]:
        run(*words)
        options = {name: value for name, value in given["options"].items() if name not in ("progress", "on_result")}
        video = options.pop("video")
        return given | {"options": {**options, **asdict(video)}}

    return options_of


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option[0])
def test_a_command_line_is_repeated_with_its_options(called: Any, option: tuple[str, ...]) -> None:
    first = called("denoise", "a b.png", "c", "-o", "out dir", *option)
    command = RunCommand(first["inputs"], first["out"], without_defaults(first["options"]))
    assert command.options
    second = called(*shlex.split(command.line())[1:])
    assert second == first


def test_every_option_is_tried() -> None:
    command = typer.main.get_command(app).commands["denoise"]  # type: ignore[attr-defined]
    names = {opt for parameter in command.params for opt in parameter.opts if opt.startswith("-")}
    shared = {"--json", "--verbose", "-v", "--quiet", "-q", "--debug", "--help"}
    shared.add("--format")  # of `-o -`, which is no run over files
    tried = {option[0] for option in OPTIONS} | {"--recursive", "-m", "-o", "--out"}
    assert names - shared == tried


def test_a_hint_may_replace_what_goes_in_and_out() -> None:
    command = RunCommand((Path("a"), Path("b")), Path("out"), {"tile": 0})
    assert command.line("-r", inputs=[Path("c.png")], out=Path("d.png")) == (
        "edgedenoise denoise c.png -o d.png --tile 0 -r"
    )
