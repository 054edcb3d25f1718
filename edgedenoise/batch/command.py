"""The command line of a run, for hints: what the user asked for, with what a hint changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_FLAGS: Final = {
    ("recursive", True): "-r",
    ("existing", "overwrite"): "--overwrite",
    ("existing", "skip"): "--skip-existing",
}
"""Options of Python that have another name on the command line."""


@dataclass(frozen=True)
class RunCommand:
    """The `edgedenoise denoise` command of a run, whether a user typed it or called `denoise_files`.

    Example:
        >>> from pathlib import Path
        >>> command = RunCommand((Path("photos"),), Path("out"), {"strength": 0.5, "convert_cmyk": True})
        >>> command.line("--overwrite")
        'edgedenoise denoise photos -o out --strength 0.5 --convert-cmyk --overwrite'
    """

    inputs: tuple[Path, ...]
    """Files and folders."""
    out: Path
    """Output file or folder."""
    options: Mapping[str, Any]
    """Options of `denoise_files` that differ from their defaults, by name."""

    def line(self, *added: str, inputs: Sequence[Path] = (), out: Path | None = None) -> str:
        """Return the command line.

        Args:
            *added: options that the user did not give.
            inputs: inputs that replace those of the user; none to keep them.
            out: output that replaces the one of the user; None to keep it.
        """
        words: list[object] = ["denoise", *(inputs or self.inputs), "-o", out or self.out]
        for name, value in self.options.items():
            words += _words(name, value)
        return command_line(*words, *added)


def _words(name: str, value: Any) -> list[object]:
    """Return an option as words of the command line."""
    if (name, value) in _FLAGS:
        return [_FLAGS[name, value]]
    option = f"--{name.replace('_', '-')}"
    return [option] if value is True else [option, value]
