"""Import published weights: make a run folder from a TensorFlow checkpoint of the C-BSN authors.

A V2 checkpoint is a pair of files, PREFIX.index and PREFIX.data-00000-of-00001. Its variables are the layers of
`cbsn.py` under the authors' names, with kernels (height, width, inputs, outputs); width and depth follow from the
shapes. The state of the training, Adam's slots and `global_step`, is not imported.
"""

from __future__ import annotations

import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import torch

from edgedenoise.atomic import write_bytes
from edgedenoise.errors import TrainingError
from edgedenoise.extras import missing_package
from edgedenoise.locks import one_writer
from edgedenoise.progress import Progress, silent
from edgedenoise.training.checkpoint import LAST, restore_network, save_checkpoint
from edgedenoise.training.config.config import RUN_CONFIG, TrainConfig
from edgedenoise.training.loop.preparation import new_run_folder
from edgedenoise.training.networks.families import NetworkSpec, build_network, network_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

_ROOT: Final = "DBSN"
"""Scope of all variables of the network."""
_SHOWN: Final = 4
"""Number of differences that an error lists."""
_OFFICIAL: Final = "cbsn-official"
"""Name of the preset that the authors trained with."""


@dataclass(frozen=True)
class ImportedRun:
    """Result of an import."""

    run: Path
    """The run folder, which `load_network`, `edgedenoise export` and `edgedenoise build` take as their checkpoint."""
    network: str
    """Name of the network, for example `cbsn-128x9`."""
    parameters: int
    """Number of parameters."""


def import_tf(prefix: Path | str, out: Path | str, *, progress: Progress = silent) -> ImportedRun:
    """Write a run folder from a TensorFlow checkpoint of the C-BSN authors.

    The run has the authors' settings and counts as finished. To continue the training, start another run with `init`.

    Args:
        prefix: the checkpoint, see `load_tf_checkpoint`.
        out: run folder to make.
        progress: called after reading and after writing.

    Returns:
        The run folder, and the network in it.

    Raises:
        UsageError: `out` is a file, or holds a run already.
        TrainingError: the checkpoint is missing, damaged or of another network, or the run cannot be written.
        RuntimeUnavailableError: TensorFlow is not installed.

    Example:
        >>> import edgedenoise
        >>> edgedenoise.import_tf("authors/CBSN.ckpt", "runs/official").network
        'cbsn-8x2'
    """
    run = new_run_folder(Path(out), hint="Name another folder with --out.")
    progress("import", 0, 2, "reading")
    weights, spec = load_tf_checkpoint(prefix)
    progress("import", 1, 2, "writing")
    network = build_network(spec, seed=0)
    restore_network(weights, network, source=Path(prefix))
    config = msgspec.structs.replace(TrainConfig.named(_OFFICIAL), network=spec.name, out=str(out))
    # The checkpoint first: a failed write then leaves nothing that looks like a run.
    with one_writer(run, TrainingError):
        save_checkpoint(run / LAST, config=config, step=config.steps, network=network)
        write_bytes(run / RUN_CONFIG, config.to_toml().encode())
    progress("import", 2, 2)
    return ImportedRun(run, spec.name, spec.parameters)


def load_tf_checkpoint(prefix: Path | str) -> tuple[dict[str, torch.Tensor], NetworkSpec]:
    """Read a TensorFlow V2 checkpoint of the C-BSN authors.

    Args:
        prefix: path of the checkpoint's index file without `.index`; also one of the checkpoint's files, or a
            folder that holds one checkpoint only.

    Returns:
        The weights as `CBSN.load_state_dict` takes them (float32, kernels (outputs, inputs, height, width)), and
        the spec of their network.

    Raises:
        TrainingError: there is no such checkpoint, it is damaged, or it holds another network.
        RuntimeUnavailableError: TensorFlow is not installed.
    """
    path = _prefix(Path(prefix))
    reader = _Reader(path)
    spec = network_spec(f"cbsn-{_width(reader)}x{_modules(reader)}")
    variables = _variables(spec.arguments["modules"])
    _check(reader, spec, variables)
    # All variables, so that a truncated file is detected even where the weights are complete.
    arrays = {name: reader.read(name) for name in sorted(reader.kinds)}
    weights = {}
    for parameter, variable in variables.items():
        value = torch.from_numpy(arrays[variable])
        weights[parameter] = value.permute(3, 2, 0, 1).contiguous() if value.ndim == 4 else value
    return weights, spec


class _Reader:
    """TensorFlow's reader, with errors of edgedenoise."""

    kinds: Mapping[str, str]
    """Variable -> type and shape, for example `float32 (3, 3, 8, 8)`."""
    shapes: Mapping[str, tuple[int, ...]]
    path: Path
    """Prefix of the checkpoint."""

    def __init__(self, prefix: Path) -> None:
        self._tf = _tensorflow()
        self.path = prefix
        try:
            self._reader = self._tf.train.load_checkpoint(str(prefix))
            shapes = self._reader.get_variable_to_shape_map()
            types = self._reader.get_variable_to_dtype_map()
        except self._failures as error:
            raise TrainingError(
                f"{prefix}.index cannot be read as a TensorFlow V2 checkpoint: {_said(error)}; it is damaged, or a "
                "file of another kind",
                hint=self._again,
            ) from error
        self.shapes = {name: tuple(shape) for name, shape in shapes.items()}
        self.kinds = {name: _kind(types[name].name, shape) for name, shape in self.shapes.items()}

    def read(self, name: str) -> Any:
        """Return a variable as an array."""
        try:
            return self._reader.get_tensor(name)
        except self._failures as error:
            raise TrainingError(
                f"the TensorFlow checkpoint {self.path} is damaged or not complete: {name} cannot be read: "
                f"{_said(error)}",
                hint=self._again,
            ) from error

    @property
    def _failures(self) -> tuple[type[Exception], ...]:
        """Errors that TensorFlow's reader raises; a truncated file, for example, is an IndexError."""
        return (self._tf.errors.OpError, LookupError, RuntimeError, ValueError)

    @property
    def _again(self) -> str:
        name = self.path.name
        return f"Download all files of the checkpoint again: {name}.index and {name}.data-00000-of-00001."


def _tensorflow() -> Any:
    """Return the module of TensorFlow, imported without its messages.

    Raises:
        RuntimeUnavailableError: TensorFlow is not installed.
    """
    # TensorFlow writes notes to the standard error on import, one of which disappears only without oneDNN; reading
    # computes nothing. Variables that the user has set are kept.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations among its own parts
            import tensorflow
    except ModuleNotFoundError as error:
        raise (missing_package(error) or error) from error
    return tensorflow


def _prefix(path: Path) -> Path:
    """Return the prefix of the checkpoint at a path.

    Raises:
        TrainingError: there is no checkpoint, or more than one.
    """
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) == 1:
            return found[0].with_suffix("")
        what = f"holds {len(found)}: {_some([index.stem for index in found])}" if found else "holds none"
        raise TrainingError(
            f"{path} is a folder that does not hold exactly one TensorFlow checkpoint: it {what}",
            hint="Name the checkpoint: the path of its .index file, without .index.",
        )
    prefix = path.with_name(re.sub(r"\.(index|meta|data-\d+-of-\d+)$", "", path.name))
    if Path(f"{prefix}.index").is_file():
        return prefix
    what = f"{path} is a file of another kind, and " if path == prefix and path.is_file() else ""
    beside = sorted(index.stem for index in path.parent.glob("*.index"))
    raise TrainingError(
        f"there is no TensorFlow checkpoint {prefix}: {what}there is no file {prefix}.index: expected the prefix of "
        "a V2 checkpoint, whose files are PREFIX.index and PREFIX.data-00000-of-00001",
        hint=f"{path.parent} holds: {_some(beside)}." if beside else None,
    )


def _width(reader: _Reader) -> int:
    """Return the number of channels of the trunk, which are the outputs of the first layer."""
    first = f"{_ROOT}/conv0/kernel"
    shape = reader.shapes.get(first, ())
    if len(shape) != 4:
        raise _another_network(reader, f"{first} is {reader.kinds.get(first, 'missing')}", sorted(reader.kinds))
    return shape[-1]


def _modules(reader: _Reader) -> int:
    """Return the number of dilated modules in the longer branch, at least 1."""
    found = (re.match(rf"{_ROOT}/B[12]/DCM(\d+)/", name) for name in reader.shapes)
    return max((int(match[1]) + 1 for match in found if match), default=1)


def _variables(modules: int) -> dict[str, str]:
    """Return the mapping from parameters of `CBSN` to the authors' variables."""
    layers = {"head": "conv0"} | {f"tail{n}": f"conv{n}" for n in (1, 2, 3, 4)}
    variables = {}
    for n in (1, 2):
        branch, scope = f"branch{n}", f"B{n}"
        variables[f"{branch}.masked.weight"] = f"{_ROOT}/{scope}/conv1/W1"
        variables[f"{branch}.masked.bias"] = f"{_ROOT}/{scope}/conv1/b1"
        layers |= {f"{branch}.mix1": f"{scope}/conv2", f"{branch}.mix2": f"{scope}/conv3"}
        for index in range(modules):
            layers[f"{branch}.trunk.{index}.dilated"] = f"{scope}/DCM{index}/conv1"
            layers[f"{branch}.trunk.{index}.pointwise"] = f"{scope}/DCM{index}/conv2"
        layers[f"{branch}.out"] = f"{scope}/conv4"
    for layer, scope in layers.items():
        variables[f"{layer}.weight"] = f"{_ROOT}/{scope}/kernel"
        variables[f"{layer}.bias"] = f"{_ROOT}/{scope}/bias"
    return variables


def _check(reader: _Reader, spec: NetworkSpec, variables: Mapping[str, str]) -> None:
    """Check that the checkpoint has all variables of the network and no others.

    Raises:
        TrainingError: the checkpoint holds another network.
    """
    with torch.device("meta"):  # shapes only
        parameters = build_network(spec).state_dict()
    wanted = {}
    for parameter, variable in variables.items():
        shape = tuple(parameters[parameter].shape)
        wanted[variable] = _kind("float32", (*shape[2:], *shape[1::-1]) if len(shape) == 4 else shape)
    differences = [
        f"{name} is {reader.kinds.get(name, 'missing')}, not {kind}"
        for name, kind in wanted.items()
        if reader.kinds.get(name) != kind
    ]
    # Adam's slots are named NAME/Adam and NAME/Adam_1; variables outside the scope belong to the trainer.
    differences += [
        f"{name} is not part of it"
        for name in sorted(reader.kinds)
        if name.startswith(f"{_ROOT}/") and name not in wanted and name.rpartition("/")[0] not in wanted
    ]
    if differences:
        raise _another_network(reader, f"as {spec.name} it has {len(differences)} differences", differences)


def _another_network(reader: _Reader, what: str, details: list[str]) -> TrainingError:
    return TrainingError(
        f"{reader.path} holds another network than the authors' C-BSN: {what}: {_some(details)}",
        hint="Take a checkpoint that their C-BSN code saved, of any width and number of modules, for example "
        "CBSN_SIDDtrain.ckpt.",
    )


def _kind(dtype: str, shape: tuple[int, ...]) -> str:
    return f"{dtype} {shape}"


def _some(details: list[str]) -> str:
    """Format the first few details, and the number of the others."""
    more = len(details) - _SHOWN
    return "; ".join(details[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _said(error: Exception) -> str:
    """Return the first line of an error of TensorFlow."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
