"""Fixtures of the command line: a function that runs it, and an image to denoise."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest
from command_line import Done, Run

from edgedenoise.cli import app
from edgedenoise.imaging.files import write_image
from edgedenoise.imaging.image import Image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    handlers, level = logging.root.handlers[:], logging.root.level

    def called(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            app([str(argument) for argument in arguments], prog_name="edgedenoise")
        code = stopped.value.code
        return Done(code if isinstance(code, int) else 0, *capsys.readouterr())

    yield called
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    write_image(Image(pixels), tmp_path / "in" / "photo.png")
    return tmp_path / "in" / "photo.png"
