"""Build OpenVINO IR from one of the bundle's ONNX graphs, float or QDQ: same graph, same ranges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgedenoise.bundle import METADATA_KEY
from edgedenoise.errors import ExportError, RuntimeUnavailableError
from edgedenoise.manifest import Variant
from edgedenoise.runtimes.ov import OpenVino

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundle import Draft


def build(draft: Draft, source: Variant, graph: Path) -> Variant:
    """Write an ONNX graph as OpenVINO IR into a bundle that is being written.

    Args:
        draft: the bundle; the IR goes into the new variant's folder.
        source: the ONNX variant that is compiled.
        graph: its file.

    Returns:
        The new variant, added to the draft.

    Raises:
        RuntimeUnavailableError: OpenVINO is not installed.
        ExportError: OpenVINO cannot read the graph.
    """
    found = OpenVino().probe()
    if not found.available:
        raise RuntimeUnavailableError(
            f"the target openvino cannot be built here: {found.reason}",
            hint=f"install it with: {found.command}",
        )
    import openvino

    name = source.name.replace("onnx-", "openvino-", 1)
    variant = Variant(name, OpenVino.name, source.precision, f"{name}/model.xml", source.encoding, source.fidelity_db)
    draft.put_variant(variant)
    try:
        model = openvino.Core().read_model(graph)
    except RuntimeError as error:
        raise ExportError(f"OpenVINO {found.version} cannot read {source.name}: {error}") from error
    model.set_rt_info(draft.essentials(variant).decode(), [METADATA_KEY])
    path = draft.root / variant.path
    path.parent.mkdir(parents=True, exist_ok=True)
    # Weights as they are: the fp16 compression that is the default would change the float variant's numbers.
    openvino.save_model(model, path, compress_to_fp16=False)
    return variant
