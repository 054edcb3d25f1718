"""`edgedenoise export`: trace the non-blind path of a trained network into a bundle.

One of the two places where torch is imported. The graph is traced by torch.export with symbolic height and width,
brought to the graph contract's opset and IR version, named, linted, and compared with PyTorch before it is written.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import onnx
import onnxscript  # noqa: F401  (torch's exporter needs it, and would word its absence as a failed export)
import torch

import edgedenoise
from edgedenoise.bundles.manifest import Parity, Training
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.calibration.calibrate import TRAINED_RANGES_FILE, float_graph_file
from edgedenoise.calibration.ranges import Ranges
from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.float_bundle import write_float_bundle
from edgedenoise.exporting.onnx.graph import IR_VERSION, OPSET, check_graph
from edgedenoise.files import sha256_of
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.base import INPUT_NAME, OUTPUT_NAME
from edgedenoise.training.checkpoint import kept_network, read_run
from edgedenoise.training.config.config import BLIND_OBJECTIVES
from edgedenoise.training.loop.logs import LOG, read_columns
from edgedenoise.training.networks.students import fold
from edgedenoise.training.objectives.fake_quant import input_ranges, sum_ranges

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.calibration.histograms import Range
    from edgedenoise.training.checkpoint import Which

PARITY_SIZES = ((64, 64), (61, 47), (33, 97), (101, 35), (127, 129))
"""Odd and uneven, so that a size that was baked in by tracing shows; multiplied up to `multiple_of` where needed."""
PARITY_BOUND = 1e-5
"""Largest |ONNX - PyTorch| over largest |PyTorch|; measured about 1e-6."""

_TRACE_SIDE_PX = 64


class NonBlind(torch.nn.Module):
    """The path that devices run: the network with every mask open and every trained branch folded."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = fold(network)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(N, 3, H, W) to (N, 3, H, W)."""
        result: torch.Tensor = self.network(image)
        return result


def export(
    checkpoint: Path | str,
    out: Path | str,
    *,
    which: Which = "last",
    about: str = "",
    progress: Progress = silent,
) -> Bundle:
    """Export a trained run as a new bundle with a float ONNX variant.

    Args:
        checkpoint: folder made by `edgedenoise train`.
        out: the bundle folder to write; an existing bundle is replaced.
        which: the `last` state of the run, or its `best` on images that were held out.
        about: Markdown for the model card: data and their licence, measured quality.
        progress: told after each of the steps trace, compare, write.

    Returns:
        The new bundle.

    Raises:
        TrainingError: `checkpoint` holds no readable checkpoint.
        ExportError: the graph breaks the contract, or differs from PyTorch; or the run only trained the blind
            network, which no device runs.
        BundleError: `out` exists and is not a bundle.
    """
    target = Path(out)
    trained = read_run(checkpoint, which)
    objective = trained.config.objective
    if objective in BLIND_OBJECTIVES:
        raise ExportError(
            f"{checkpoint} was trained with objective = {objective!r}, which only teaches the blind network; devices"
            " run the non-blind path, which has learnt nothing",
            hint=f"Teach it first: edgedenoise train --objective cbsn --init {checkpoint} --data DIR --out RUN",
        )
    network, spec = kept_network(trained, source=Path(checkpoint))
    steps = 3
    progress("export", 0, steps, "tracing")
    module = NonBlind(network).eval()
    model = trace(module)
    progress("export", 1, steps, "comparing with PyTorch")
    parity = _compare(module, model, spec.multiple_of)
    progress("export", 2, steps, "writing")
    bundle = write_float_bundle(
        target,
        model,
        name=spec.name,
        normalization=spec.normalization,
        halo_px=spec.halo_px,
        multiple_of=spec.multiple_of,
        parity=parity,
        training=Training(objective, trained.step, _hours(Path(checkpoint), trained.step), bool(trained.config.clean)),
        about=about,
    )
    if objective == "qat":
        bundle = _with_trained_ranges(bundle, trained_ranges(network, model))
    progress("export", steps, steps)
    return bundle


def trained_scheme(checkpoint: Path | str, which: Which = "last") -> str | None:
    """Return the integer encoding that a run was trained in, or None for one that was trained in float."""
    config = read_run(checkpoint, which).config
    return config.scheme if config.objective == "qat" else None


def _with_trained_ranges(bundle: Bundle, tensors: dict[str, Range]) -> Bundle:
    """Store the ranges that weights were trained with, by the names of tensors in the graph."""
    known = Ranges(sha256_of(float_graph_file(bundle)), 0, tensors)
    with BundleWriter.edit(bundle) as draft:
        draft.write(TRAINED_RANGES_FILE, msgspec.json.format(msgspec.json.encode(known), indent=1))
    return type(bundle).open(bundle.root)


def trained_ranges(network: torch.nn.Module, model: onnx.ModelProto) -> dict[str, Range]:
    """Return the ranges that a fake-quantized network was trained with, by the names that tensors have in its graph.

    Raises:
        ExportError: the graph has other sums than the network.
    """
    by_output = {node.output[0]: node for node in model.graph.node}
    weight = ".weight"
    readers = {node.input[1].removesuffix(weight): node.input[0] for node in model.graph.node if node.op_type == "Conv"}
    tensors = {readers[f"network.{name}"]: found for name, found in input_ranges(network).items()}
    for name, found in list(tensors.items()):
        if name in by_output and by_output[name].op_type == "Concat":  # rounded before they are joined
            tensors |= dict.fromkeys(by_output[name].input, found)
    image = model.graph.input[0].name
    sums = [node for node in model.graph.node if node.op_type == "Add" and image not in node.input]
    trained = sum_ranges(network)
    if len(sums) != len(trained):
        raise ExportError(f"the graph has {len(sums)} sums inside, the network that was trained {len(trained)}")
    for node, (of_skip, of_branch) in zip(sums, trained, strict=True):
        skip, branch = node.input
        tensors[skip] = of_skip
        if of_branch is not None:
            tensors[branch] = of_branch
    return tensors


def _hours(run: Path, step: int) -> float:
    """Return how long a run took until a step, by its log; 0 without one."""
    rows = read_columns(run / LOG)
    done = [seconds for at, seconds in zip(rows.get("step", ()), rows.get("seconds", ()), strict=True) if at <= step]
    return round(float(max(done, default=0.0)) / 3600, 2)


def trace(module: torch.nn.Module) -> onnx.ModelProto:
    """Return the ONNX graph of a module that takes and gives (1, 3, H, W), obeying the graph contract.

    Raises:
        ExportError: the exporter fails, stays at another opset, or leaves an operator that is not allowed.
    """
    example = torch.randn(1, 3, _TRACE_SIDE_PX, _TRACE_SIDE_PX + 8, generator=torch.Generator().manual_seed(0))
    sides = {2: torch.export.Dim("height", min=2), 3: torch.export.Dim("width", min=2)}
    try:
        # The loggers warn that opset 17 takes a conversion: asked for, and checked below.
        with _quiet("torch.onnx"), _quiet("onnxscript"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the exporter itself
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                dynamic_shapes={"image": sides},
                input_names=[INPUT_NAME],
                output_names=[OUTPUT_NAME],
                external_data=False,
                verbose=False,
            )
    except Exception as error:
        raise ExportError(f"torch could not export the network: {type(error).__name__}: {error}") from error
    if program is None:  # only with export options that are not used here
        raise ExportError("torch exported nothing")
    model = _cleaned(program.model_proto)
    check_graph(model, quantized=False)
    return model


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _cleaned(exported: onnx.ModelProto) -> onnx.ModelProto:
    """Keep what the graph computes; drop the exporter's notes, whose paths and names are the author's business."""
    model = onnx.ModelProto()
    model.CopyFrom(exported)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "edgedenoise", edgedenoise.__version__
    del model.metadata_props[:]
    del model.graph.value_info[:]
    model.graph.name = "denoiser"
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        node.name = node.output[0]
    for value in [*model.graph.input, *model.graph.output, *model.graph.initializer]:
        del value.metadata_props[:]
        value.doc_string = ""
    for output in model.graph.output:  # the exporter may write the same sides as expressions
        for dim, name in zip(output.type.tensor_type.shape.dim[2:], ("height", "width"), strict=True):
            dim.dim_param = name
    return model


def _compare(module: torch.nn.Module, model: onnx.ModelProto, multiple_of: int) -> Parity:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    worst, sizes = 0.0, []
    for height, width in PARITY_SIZES:
        size = tuple(-(-side // multiple_of) * multiple_of for side in (height, width))
        x = rng.standard_normal((1, 3, *size), np.float32)
        with torch.inference_mode():
            expected = module(torch.from_numpy(x)).numpy()
        found = session.run([OUTPUT_NAME], {INPUT_NAME: x})[0]
        if found.shape != expected.shape:
            raise ExportError(
                f"the exported graph answers {found.shape} at {x.shape}; PyTorch answers {expected.shape}"
            )
        worst = max(worst, float(np.abs(found - expected).max() / np.abs(expected).max()))
        sizes.append((size[0], size[1]))
    if not worst <= PARITY_BOUND:
        raise ExportError(
            f"the exported graph differs from PyTorch by {worst:.1e} (relative); accepted is {PARITY_BOUND:.0e}",
            hint="please report this with the versions of torch and onnxruntime: edgedenoise doctor --json",
        )
    return Parity(sizes, worst)
