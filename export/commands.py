"""Format the commands that add a variant to a bundle; what is printed works when it is typed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.bundles.writer import editable_copy
from edgedenoise.calibration.calibrate import RANGES_FILE
from edgedenoise.runtimes.onnxruntime.backend import OnnxRuntime
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Precision
    from edgedenoise.runtimes.base import Backend


def compile_command(bundle: Bundle, backend: Backend, precision: Precision) -> str:
    """Return the command line that adds a backend's variant to a bundle, with every step that comes before it.

    Args:
        bundle: the bundle; an archive or a shipped one is unpacked first, and one without ranges is calibrated first.
        backend: what to build for.
        precision: what to build.
    """
    steps, folder = _preparation(bundle)
    if precision == "int8" and not has_int8_graph(bundle, backend):
        steps.append(["quantize", folder, "--scheme", backend.schemes[0]])
    steps.append(["compile", folder, "--target", backend.name, "--precision", precision])
    return _joined(steps)


def quantize_command(bundle: Bundle, backend: Backend) -> str:
    """Return the command line that adds the INT8 graph that a backend is built from."""
    steps, folder = _preparation(bundle)
    return _joined([*steps, ["quantize", folder, "--scheme", backend.schemes[0]]])


def _preparation(bundle: Bundle) -> tuple[list[list[str]], str]:
    """Return the steps that make a bundle editable and calibrated, and the folder that they end with."""
    copying, folder = editable_copy(bundle)
    steps = [copying] if copying else []
    if not bundle.has(RANGES_FILE):
        steps.append(["calibrate", str(folder), "--data", "noisy"])  # only the user knows where the images are
    return steps, str(folder)


def has_int8_graph(bundle: Bundle, backend: Backend) -> bool:
    """Return whether a bundle has an INT8 graph that a backend can be built from."""
    encodings = [v.encoding for v in bundle.manifest.variants if v.runtime == OnnxRuntime.name]
    return any(encoding is not None and encoding.scheme in backend.schemes for encoding in encodings)


def _joined(steps: list[list[str]]) -> str:
    return " && ".join(command_line(*step) for step in steps)
