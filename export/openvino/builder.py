"""Build OpenVINO IR from one of the bundle's ONNX graphs, float or QDQ: same graph, same ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.bundles.manifest import Variant
from edgedenoise.calibration.graphs import load_onnx
from edgedenoise.errors import ExportError, UsageError
from edgedenoise.exporting.build_options import backend_options
from edgedenoise.exporting.fp16 import check_fp16
from edgedenoise.runtimes.openvino.backend import OpenVino
from edgedenoise.runtimes.openvino.core import shared_core
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from edgedenoise.runtimes.job import BuildJob


def build(job: BuildJob) -> Variant:
    """Build OpenVINO IR from an ONNX graph.

    fp16 means half-precision weights: GPUs and NPUs compute in float16, the CPU plugin in float32.

    Args:
        job: what is built, and in which precision; the IR accepts any input size.

    Returns:
        The new variant; its files are in `job.root`.

    Raises:
        RuntimeUnavailableError: OpenVINO is not installed.
        ExportError: OpenVINO cannot read the graph, or it does not fit into float16.
        UsageError: an option or a shape was given; OpenVINO has none.
    """
    backend_options(_NoOptions, job.options, OpenVino.name)
    if job.options.tile is not None or job.options.tiles or job.options.tile_range is not None:
        raise UsageError(
            "openvino takes inputs of any size: expected no tile, got --tile, --tiles or --tile-range",
            hint=f"Leave it out: {command_line('compile', job.bundle.source, '--target', OpenVino.name)}",
        )
    import openvino

    source, half = job.source, job.precision == "fp16"
    if half:
        check_fp16(job.bundle, load_onnx(job.graph.read_bytes(), str(job.graph)))
    name = "openvino-fp16" if half else source.name.replace("onnx-", "openvino-", 1)
    variant = Variant(
        name,
        OpenVino.name,
        job.precision,
        f"{name}/model.xml",
        source.encoding,
        source.fidelity_db,
        loss=source.loss,
    )
    try:
        model = shared_core().read_model(job.graph)
    except RuntimeError as error:
        raise ExportError(f"OpenVINO {openvino.__version__} cannot read {source.name}: {error}") from error
    model.set_rt_info(job.metadata(variant), [METADATA_KEY])
    path = job.new_folder(variant) / "model.xml"
    # The compression is OpenVINO's default; the float variant's weights stay as they are.
    openvino.save_model(model, path, compress_to_fp16=half)
    return variant


class _NoOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No options: IR takes any shape, and plugins get their settings when it is opened."""
