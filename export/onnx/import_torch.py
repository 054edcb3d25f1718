"""Import a denoiser from PyTorch: weights of C-BSN by the names of its port, or a torch.export program."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from edgedenoise.errors import ExportError, UsageError
from edgedenoise.exporting.onnx.foreign import (
    ForeignNetwork,
    ImportedBundle,
    blend_command,
    check_options,
    import_network,
)
from edgedenoise.exporting.onnx.tracing import NonBlind, module_answers, program_graph, trace
from edgedenoise.progress import Progress, silent
from edgedenoise.shell import command_line
from edgedenoise.system_errors import input_errors
from edgedenoise.training.networks.families import build_network
from edgedenoise.training.torch_import import load_torch_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from edgedenoise.exporting.onnx.foreign import TilingKind
    from edgedenoise.exporting.onnx.parity import Answer
    from edgedenoise.imaging.normalize import NormalizationKind

PROGRAM_SUFFIX = ".pt2"
"""Suffix of torch.export programs; other files are weights."""


def import_torch(
    source: Path | str,
    out: Path | str,
    *,
    normalization: NormalizationKind | None = None,
    tiling: TilingKind = "exact",
    halo_px: int | None = None,
    trust_program: bool = False,
    about: str = "",
    progress: Progress = silent,
) -> ImportedBundle:
    """Make a bundle of a denoiser from PyTorch: weights of C-BSN, or a torch.export program of any network.

    The graph is compared with the network in PyTorch, and tiles are compared with the whole image.

    Args:
        source: a `.pt2` file of `torch.export.save`, from float32 [1, 3, height, width] to the denoised image in the
            same shape, or with a fourth channel as in `import_onnx`; or weights of C-BSN by the names of its PyTorch
            port, as `.safetensors` or a file of `torch.save`.
        out: the bundle folder to write; an existing bundle is replaced.
        normalization: how the network takes pixels. None for `unit`, and for the normalization of the port's code
            where the file holds weights.
        tiling: `exact` refuses a network whose tiles cannot have the pixels of the whole image. `blend` takes one that
            averages the whole image: tiles overlap and are blended, and the bundle says that they are not exact.
        halo_px: context in pixels that tiles need on each side; None for the receptive field of the graph.
        trust_program: load a `.pt2` file, although torch can run code that the file chooses.
        about: Markdown for the model card: data and their licence, measured quality.
        progress: called after each of the steps clean, compare, write.

    Returns:
        The bundle, and what was measured.

    Raises:
        UsageError: `halo_px` is out of range, tiles are to be blended that can be exact, or `trust_program` is given
            for weights.
        TrainingError: the weights cannot be read without running code, or are those of another network.
        ExportError: the program is not trusted or cannot be read, has an operator that is not taken, or cannot be
            tiled exactly; the message names the reason.
        BundleError: `out` exists and is not a bundle.

    Example:
        >>> import edgedenoise
        >>> imported = edgedenoise.import_torch("port.safetensors", "port.edge")
        >>> imported.bundle.manifest.network.name
        'cbsn-8x2'
    """
    target, path = Path(out), Path(source)
    check_options(target, halo_px)
    if path.suffix == PROGRAM_SUFFIX:
        network = _program(path, target, trusted=trust_program)
        chosen = normalization or "unit"
    elif trust_program:
        raise UsageError(f"--trust-program belongs to {PROGRAM_SUFFIX} files; got {path}")
    else:
        found = load_torch_checkpoint(path)
        module = build_network(found.spec, seed=0)
        module.load_state_dict(found.weights)
        deployed = NonBlind(module).eval()
        network = ForeignNetwork(trace(deployed).model, found.spec.name, module_answers(deployed, torch.float32), "")
        chosen = normalization or found.normalization.kind
    return import_network(
        network, target, normalization=chosen, tiling=tiling, halo_px=halo_px, about=about, progress=progress
    )


def _program(path: Path, out: Path, *, trusted: bool) -> ForeignNetwork:
    """Return the network of a torch.export program.

    Raises:
        ExportError: it is not trusted, or cannot be read or exported.
    """
    with input_errors(path, ExportError), path.open("rb"):
        pass
    if not trusted:
        raise ExportError(
            f"{path} is not loaded: torch.export.load can run code that the file chooses, by pickle and by names of"
            " functions in it",
            hint="If you made the file or trust its maker: "
            f"{command_line('import-torch', path, '-o', out, '--trust-program')}. Otherwise ask for the network as"
            " ONNX, which runs no code, and use import-onnx.",
        )
    try:
        with _silent_torch(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # remarks of torch on its own file format
            program = torch.export.load(path)
            module = program.module()
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(
            f"{path} cannot be read as a torch.export program: {reason}",
            hint="Save it again with torch.export.save(torch.export.export(network.eval(), (image,)), ...), with this"
            f" version of torch: {torch.__version__}",
        ) from error
    again = blend_command("import-torch", path, out, "--trust-program")
    return ForeignNetwork(program_graph(program), path.stem, _answers(module), again)


def _answers(module: torch.nn.Module) -> Answer:
    """Return a function that runs the module of a program.

    Raises:
        ExportError: the module does not take an image of the size.
    """
    plain = module_answers(module, torch.float32)

    def answer(x: NDArray[np.float32]) -> NDArray[np.floating]:
        try:
            return plain(x)
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            height, width = x.shape[2:]
            raise ExportError(
                f"the program does not take {height}x{width} pixels: {reason}",
                hint="Export it again with dynamic height and width, from 64 to 512 or more.",
            ) from error

    return answer


@contextmanager
def _silent_torch() -> Iterator[None]:
    """Leave out what torch logs about a file that it cannot read; the error says it."""
    logger = logging.getLogger("torch.export")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled
