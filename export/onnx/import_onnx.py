"""Import a denoiser of any origin: make a bundle around a foreign ONNX graph, with which every command works."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.cleaning import foreign_interface
from edgedenoise.exporting.onnx.foreign import (
    ForeignNetwork,
    ImportedBundle,
    blend_command,
    check_options,
    import_network,
)
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.onnxruntime.reference import run
from edgedenoise.system_errors import input_errors

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgedenoise.exporting.onnx.foreign import TilingKind
    from edgedenoise.imaging.normalize import NormalizationKind


def import_onnx(
    model: Path | str,
    out: Path | str,
    *,
    normalization: NormalizationKind = "unit",
    tiling: TilingKind = "exact",
    halo_px: int | None = None,
    about: str = "",
    progress: Progress = silent,
) -> ImportedBundle:
    """Make a bundle of a denoiser that is an ONNX graph, from any framework.

    The graph is cleaned and compared with the original, and tiles are compared with the whole image.

    Args:
        model: the ONNX file: from float32 [1, 3, height, width] to the denoised image in the same shape. A fourth
            input channel is the standard deviation of the noise at each pixel, with white as 1.
        out: the bundle folder to write; an existing bundle is replaced.
        normalization: how the network takes pixels: `unit` as [0, 1], or `whole-image`.
        tiling: `exact` refuses a network whose tiles cannot have the pixels of the whole image. `blend` takes one that
            averages the whole image: tiles overlap and are blended, and the bundle says that they are not exact.
        halo_px: context in pixels that tiles need on each side; None for the receptive field of the graph.
        about: Markdown for the model card: data and their licence, measured quality.
        progress: called after each of the steps clean, compare, write.

    Returns:
        The bundle, and what was measured.

    Raises:
        UsageError: `halo_px` is out of range, tiles are to be blended that can be exact.
        ExportError: the file is not an ONNX graph, has an operator that is not taken, or cannot be tiled exactly; the
            message names the reason.
        BundleError: `out` exists and is not a bundle.

    Example:
        >>> import edgedenoise
        >>> model = edgedenoise.Bundle.open("edge-tiny").file("onnx-fp32/model.onnx")
        >>> imported = edgedenoise.import_onnx(model, "imported.edge")
        >>> imported.halo_px, imported.multiple_of
        (17, 2)
    """
    target, source = Path(out), Path(model)
    check_options(target, halo_px)
    original = _read(source)
    interface = foreign_interface(original)

    def answer(x: NDArray[np.float32]) -> NDArray[np.floating]:
        return run(original.SerializeToString(), {interface.input: x})[interface.output]

    return import_network(
        ForeignNetwork(original, source.stem, answer, blend_command("import-onnx", source, target)),
        target,
        normalization=normalization,
        tiling=tiling,
        halo_px=halo_px,
        about=about,
        progress=progress,
    )


def _read(path: Path) -> onnx.ModelProto:
    """Return the graph of a file, with weights that lie beside it.

    Raises:
        ExportError: it is not an ONNX graph.
    """
    with input_errors(path, ExportError):
        path.stat()
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ExportError(
            f"{path} cannot be read as an ONNX model: {reason}", hint="Export the network again, in float32."
        ) from error
    return model
