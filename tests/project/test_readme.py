"""Every command of README.md is executed, in order, as a reader would type it.

The blocks of one page share one folder, which begins with `photos/`, `clean/`, `photo.png` and `photo.jpg`
(CONTRIBUTING.md, "Commands in the README"). Commands that are not executed are counted.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
BLOCK_TIMEOUT_S = 600

# Commands of README.md that are not executed: the two that would run this test or train for minutes, and blocks
# tagged `device` (three backticks, "bash device"), which need other hardware.
NOT_EXECUTED = {"make demo": 1, "make test": 1, "device": 0}

TRAINING = """\
edgedenoise train --data photos --out run --network cbsn-16x4 --steps 20 --patch 60
edgedenoise build run --data photos -o mine.edge
"""
"""First lines of blocks on several pages, which take a minute: they run once, and the other pages get their files."""

EXECUTED = ("bash", "python")
SHOWN_ONLY = ("html", "json", "markdown", "mermaid", "text", "toml")


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    tags: tuple[str, ...]
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str, text: str) -> list[Block]:
    """Return the fenced blocks of a page, also those indented within lists."""
    blocks: list[Block] = []
    opened: tuple[int, re.Match[str]] | None = None
    collected: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fence = re.fullmatch(r"( *)(`{3,})(.*)", line)
        if opened is None:
            if fence:
                opened, collected = (number, fence), []
        elif fence and len(fence[2]) >= len(opened[1][2]) and not fence[3].strip():
            language, *tags = opened[1][3].split() or [""]
            blocks.append(Block(page, opened[0], language, tuple(tags), "\n".join(collected)))
            opened = None
        else:
            collected.append(line.removeprefix(opened[1][1]))
    if opened is not None:
        pytest.fail(f"{page}:{opened[0]}: this block is never closed", pytrace=False)
    return blocks


def readme() -> list[Block]:
    return blocks_of("README.md", (ROOT / "README.md").read_text(encoding="utf-8"))


def own_make(line: str) -> str | None:
    """Return `make demo` or `make test` if a line runs it, or None."""
    found = re.match(r"\s*(make (?:demo|test))\b", line)
    return found[1] if found else None


def to_run(block: Block) -> str:
    return "\n".join(line for line in block.code.splitlines() if not own_make(line))


def execute(block: Block, folder: Path, environment: dict[str, str]) -> None:
    """Run one block in `folder`. Files are kept for the next blocks; shell variables are not."""
    code = to_run(block)
    if not code.strip():
        return
    shell = ["bash", "-euo", "pipefail", "-c"] if block.language == "bash" else [sys.executable, "-c"]
    with subprocess.Popen(
        [*shell, code],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            output, _ = child.communicate(timeout=BLOCK_TIMEOUT_S)
            ended = f"exited {child.returncode}"
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # with the commands that the shell has started
            output, _ = child.communicate()
            ended = f"was still running after {BLOCK_TIMEOUT_S} s"
    if child.returncode == 0:
        return
    there = sorted(path.relative_to(folder).as_posix() for path in folder.iterdir())
    pytest.fail(
        f"{block} {ended}\n\n{code}\n\n--- what it printed (the end of it) ---\n{output[-4000:]}\n"
        f"--- what was in the folder ---\n{', '.join(there)}",
        pytrace=False,
    )


def write_images(folder: Path) -> None:
    """Write what blocks begin with: eight small noisy images, the same without noise, and single images."""
    height = width = 192
    y, x = np.mgrid[0:height, 0:width] / width
    random = np.random.default_rng(20)
    for kind in ("photos", "clean"):
        (folder / kind).mkdir()
    for index in range(8):
        phase, pitch = random.uniform(0, 6, 3), random.uniform(4, 14, 3)
        waves = [np.sin(pitch[c] * (x + (c + 1) * y) + phase[c]) for c in range(3)]
        blocks = ((8 * x).astype(int) + (8 * y).astype(int) + index) % 3 == 0
        clean = 120 + 60 * np.stack(waves, axis=-1) + 40 * blocks[..., None]
        noisy = clean + random.normal(0, 25, clean.shape)
        for kind, pixels in (("clean", clean), ("photos", noisy)):
            image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
            image.save(folder / kind / f"{index + 1}.png")
            if index == 0 and kind == "photos":
                image.save(folder / "photo.png")
                image.save(folder / "photo.jpg", quality=95)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that the blocks of a page run in."""
    write_images(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def trained(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a page after the commands of TRAINING."""
    folder = tmp_path_factory.mktemp("trained")
    write_images(folder)
    execute(Block("TRAINING", 1, "bash", (), TRAINING), folder, environment)
    return folder


@pytest.fixture(scope="module")
def environment(plain_environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return plain_environment | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


def execute_page(blocks: list[Block], folder: Path, environment: dict[str, str], request: Any) -> None:
    """Run the blocks of a page in order; those of TRAINING have run already."""
    for block in blocks:
        if block.code.startswith(TRAINING.rstrip()):
            shutil.copytree(request.getfixturevalue("trained"), folder, dirs_exist_ok=True)
            block = replace(block, code=block.code[len(TRAINING) :])
        execute(block, folder, environment)


def test_every_command_in_the_readme_works(
    folder: Path, environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    blocks = [block for block in readme() if block.language in EXECUTED and "device" not in block.tags]
    execute_page(blocks, folder, environment, request)


def docs_blocks() -> dict[str, list[Block]]:
    """Return the blocks of each page under docs/ that are executed: those tagged `run` ("bash run")."""
    found = {}
    for path in sorted(ROOT.glob("docs/**/*.md")):
        page = path.relative_to(ROOT).as_posix()
        blocks = [
            block
            for block in blocks_of(page, path.read_text(encoding="utf-8"))
            if block.language in EXECUTED and "run" in block.tags
        ]
        if blocks:
            found[page] = blocks
    return found


@pytest.mark.parametrize("page", docs_blocks())
def test_the_blocks_of_a_docs_page_that_say_run_work(
    page: str, folder: Path, environment: dict[str, str], request: pytest.FixtureRequest
) -> None:
    """Pages also show commands on large data; only blocks tagged `run` are executed."""
    execute_page(docs_blocks()[page], folder, environment, request)


def test_the_commands_that_run_once_for_several_pages_are_those_of_the_readme() -> None:
    shown = [block for block in readme() if block.code.startswith(TRAINING.rstrip())]
    shown += [
        block for blocks in docs_blocks().values() for block in blocks if block.code.startswith(TRAINING.rstrip())
    ]
    assert shown[0].page == "README.md"
    assert len(shown) > 1, "only one page trains: TRAINING can go"


def test_the_results_in_the_readme_are_the_recorded_ones() -> None:
    spec = importlib.util.spec_from_file_location("front_page_table", ROOT / "tools" / "front_page_table.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    record = json.loads((ROOT / "docs" / "results" / "front-page.json").read_text(encoding="utf-8"))
    assert text.split(tool.BEGIN)[1].split(tool.END)[0] == tool.section(record)


def test_what_is_not_executed_is_counted() -> None:
    left_out: Counter[str] = Counter()
    for block in readme():
        if block.language in EXECUTED and "device" in block.tags:
            left_out["device"] += 1
        elif block.language in EXECUTED:
            left_out.update(make for line in block.code.splitlines() if (make := own_make(line)))
    counts = {what: left_out[what] for what in NOT_EXECUTED}
    assert counts == NOT_EXECUTED, (
        "README.md shows another number of commands that are not executed. If that is meant, change "
        "NOT_EXECUTED in tests/project/test_readme.py in the same commit."
    )


def test_every_block_in_the_readme_is_either_executed_or_no_command() -> None:
    """A block called `sh` or `console`, or nothing, would not be executed."""
    for block in readme():
        assert block.language in EXECUTED + SHOWN_ONLY, (
            f"{block}: a block called {block.language!r}; commands are called bash or python and are "
            f"executed, everything else is called one of {', '.join(SHOWN_ONLY)}"
        )
        assert set(block.tags) <= {"device"}, f"{block}: unknown tags {block.tags}"


PAGE = """\
Text.
```bash
echo one
make demo   # not here
```
1. a list
   ```python device
   import tensorrt
   ```
````markdown
```bash
shown, not run
```
````
"""


def test_blocks_are_found_where_they_stand() -> None:
    found = blocks_of("page.md", PAGE)
    assert [(block.line, block.language, block.tags) for block in found] == [
        (2, "bash", ()),
        (7, "python", ("device",)),
        (10, "markdown", ()),
    ]
    assert to_run(found[0]) == "echo one"
    assert found[1].code == "import tensorrt"


@pytest.mark.parametrize("code", ["false\necho hidden", "edgedenoise-is-not-this", "false | cat"])
def test_a_command_that_fails_fails_the_page_and_says_where(
    code: str, tmp_path: Path, plain_environment: dict[str, str]
) -> None:
    block = Block("README.md", 42, "bash", (), code)
    with pytest.raises(pytest.fail.Exception, match=r"README\.md:42 exited"):
        execute(block, tmp_path, plain_environment)


def test_blocks_share_their_folder(folder: Path, plain_environment: dict[str, str]) -> None:
    execute(
        Block("a.md", 1, "bash", (), "ls photos | wc -l > count; test -f photo.png"),
        folder,
        plain_environment,
    )
    check = "from pathlib import Path; assert Path('count').read_text().strip() == '8'"
    execute(Block("a.md", 9, "python", (), check), folder, plain_environment)
