"""The entry of the command line: `edgedenoise` and `python -m edgedenoise`."""

from __future__ import annotations

import os
import signal
import sys

_INTERRUPTED = 130  # 128 + SIGINT, as shells count


def main() -> None:
    """Run the command line; Ctrl-C during its imports ends the process without a traceback."""
    is_default = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a background job may ignore it
    if is_default:
        # A KeyboardInterrupt in the middle of an import may be swallowed or become another error.
        signal.signal(signal.SIGINT, _exit)
    from edgedenoise.cli import main as run

    if is_default:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _exit(number: int, frame: object) -> None:  # noqa: ARG001
    os._exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
