"""Read weights of C-BSN that PyTorch code of others saved: a state dict whose names are mapped onto `cbsn.py`.

Two forms of names are known, those of the two public versions of `C_BSN_self.py`, a port of the authors' TensorFlow
code. No pickled code is run: `.safetensors` files hold no code, and other files are read with `weights_only=True`.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from edgedenoise.errors import TrainingError
from edgedenoise.imaging.normalize import UNIT, WHOLE_IMAGE, Normalization
from edgedenoise.system_errors import input_errors
from edgedenoise.training.networks.families import NetworkSpec, build_network, network_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_SHOWN: Final = 4
"""Number of names that an error lists."""
_SAVE_AGAIN: Final = (
    'Save the weights alone: torch.save(network.state_dict(), "weights.pt"), or safetensors.torch.save_file(...)'
)


@dataclass(frozen=True)
class TorchWeights:
    """Weights of a C-BSN in the names of `cbsn.py`, and what is known about their network."""

    weights: dict[str, torch.Tensor]
    """As `CBSN.load_state_dict` takes them, float32."""
    spec: NetworkSpec
    normalization: Normalization
    """How the code that the names belong to normalizes images."""


@dataclass(frozen=True)
class _Naming:
    """The names that one version of the port gives to the layers."""

    first: str
    """Name of the first layer, by which the naming is recognized."""
    module: str
    """Regular expression of names in the dilated modules; the group is the number of the module."""
    layers: Callable[[int], dict[str, str]]
    """Returns name of the layer in `cbsn.py` -> its name here, for a number of modules."""
    centre: str
    """Last part of the name of what the masked convolutions have beside weight and bias."""
    normalization: Normalization


def load_torch_checkpoint(path: Path | str) -> TorchWeights:
    """Read a state dict of C-BSN in PyTorch.

    Args:
        path: a `.safetensors` file, or a file of `torch.save` that holds the state dict or a checkpoint with one.
            Names may begin with `module.`, as DataParallel writes them.

    Returns:
        The weights in the names of `cbsn.py`, the network and its normalization.

    Raises:
        TrainingError: the file cannot be read without running code, or holds another network; the message names what
            is missing, unknown or of another shape.
    """
    source = Path(path)
    state = _without_prefix(_state_dict(_loaded(source), source))
    naming = next((one for one in _NAMINGS if f"{one.first}.weight" in state), None)
    if naming is None:
        firsts = " or ".join(f"{one.first}.weight" for one in _NAMINGS)
        raise _another_network(source, f"expected the name {firsts}", sorted(state))
    shape = tuple(state[f"{naming.first}.weight"].shape)
    if len(shape) != 4 or shape[0] < 1:
        raise _another_network(source, f"{naming.first}.weight has the shape {shape}", sorted(state))
    found = [re.fullmatch(naming.module, name) for name in state]
    modules = max((int(match[1]) + 1 for match in found if match), default=1)
    spec = network_spec(f"cbsn-{shape[0]}x{modules}")
    return TorchWeights(_mapped(state, naming, spec, source), spec, naming.normalization)


def _loaded(path: Path) -> Any:
    """Return what a file holds, without running code in it.

    Raises:
        TrainingError: it cannot be read so.
    """
    with input_errors(path, TrainingError), path.open("rb"):
        pass
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise TrainingError(
            f"{path} is not read: expected tensors alone, got objects of Python, whose code a pickle file can choose,"
            f" or a file of another kind: {_reason(error)}",
            hint=_SAVE_AGAIN,
        ) from error
    except (SafetensorError, OSError, EOFError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise TrainingError(
            f"{path} cannot be read as weights of PyTorch: {_reason(error)}",
            hint=f"Copy it again from where it came. {_SAVE_AGAIN}",
        ) from error


def _state_dict(loaded: Any, path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict in what a file holds: all of it, or the only entry that is one."""
    if _is_state_dict(loaded):
        return dict(loaded)
    inside = {str(key): value for key, value in loaded.items() if _is_state_dict(value)} if _is_dict(loaded) else {}
    if len(inside) != 1:
        what = f"{len(inside)} of them: {_some(sorted(inside))}" if inside else f"a {type(loaded).__name__} without one"
        raise TrainingError(
            f"{path} holds no single state dict: expected names with tensors, got {what}", hint=_SAVE_AGAIN
        )
    return dict(next(iter(inside.values())))


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _is_state_dict(value: Any) -> bool:
    return (
        _is_dict(value)
        and bool(value)
        and all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in value.items())
    )


def _without_prefix(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    prefix = "module."
    if all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _mapped(
    state: Mapping[str, torch.Tensor], naming: _Naming, spec: NetworkSpec, path: Path
) -> dict[str, torch.Tensor]:
    """Return the weights in the names of `cbsn.py`.

    Raises:
        TrainingError: a name is missing or unknown, a shape is another one, or the centre pixel is masked for good.
    """
    with torch.device("meta"):  # shapes only
        parameters = build_network(spec).state_dict()
    theirs = {
        f"{layer}.{role}": f"{name}.{role}"
        for layer, name in naming.layers(spec.arguments["modules"]).items()
        for role in ("weight", "bias")
    }
    centres = {layer: theirs[f"{layer}.weight"].replace(".weight", f".{naming.centre}") for layer in _MASKED}
    wanted = {theirs[name]: tuple(value.shape) for name, value in parameters.items()}
    for layer, centre in centres.items():
        outputs, inputs, *kernel = parameters[f"{layer}.weight"].shape
        wanted[centre] = (1, 1, *kernel) if naming.centre == "mask" else (outputs, inputs, 1, 1)
    differences = [_difference(name, state.get(name), shape) for name, shape in wanted.items()]
    differences += [f"{name} is not part of it" for name in sorted(state) if name not in wanted]
    known = [one for one in differences if one]
    if known:
        raise _another_network(path, f"as {spec.name} it has {len(known)} differences", known)
    weights = {name: state[given].to(torch.float32).contiguous() for name, given in theirs.items()}
    for layer, centre in centres.items():
        value, middle = state[centre].to(torch.float32), parameters[f"{layer}.weight"].shape[-1] // 2
        if naming.centre != "mask":
            weights[f"{layer}.weight"][:, :, middle, middle] = value[:, :, 0, 0]
        elif not bool((value == 1).all()):
            raise TrainingError(
                f"{path} holds the blind network alone: {centre} hides the centre pixel, whose weights were never"
                " trained; devices run the network that sees it",
                hint="Take weights whose code trains both paths, with conv layers that have a center_weight.",
            )
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        raise TrainingError(f"{path} holds weights that are not finite numbers", hint="Take an earlier checkpoint.")
    return weights


def _difference(name: str, value: torch.Tensor | None, shape: tuple[int, ...]) -> str:
    """Return how a tensor differs from the wanted one; empty where it does not."""
    if value is None:
        return f"{name} {shape} is missing"
    if tuple(value.shape) != shape or not value.is_floating_point():
        return f"{name} is {str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}, not float {shape}"
    return ""


_MASKED: Final = ("branch1.masked", "branch2.masked")


def _branches(modules: int, names: Mapping[str, str], trunk: str, branch: Callable[[int], str]) -> dict[str, str]:
    """Return name of the layer in `cbsn.py` -> name in the port, of both branches."""
    layers: dict[str, str] = {}
    for n in (1, 2):
        layers |= {f"branch{n}.{ours}": f"{branch(n)}{name}" for ours, name in names.items()}
        for index in range(modules):
            layers[f"branch{n}.trunk.{index}.dilated"] = f"{branch(n)}{trunk}.{index}.conv1"
            layers[f"branch{n}.trunk.{index}.pointwise"] = f"{branch(n)}{trunk}.{index}.conv2"
    return layers


def _with_centre_weight(modules: int) -> dict[str, str]:
    names = {"masked": "masked", "mix1": "c1.conv", "mix2": "c2.conv", "out": "c3.conv"}
    ends = {"head": "head.conv", "tail1": "f1.conv", "tail2": "f2.conv", "tail3": "f3.conv", "tail4": "out.conv"}
    return ends | _branches(modules, names, "dcms", lambda n: f"b{n}.")


def _with_masks(modules: int) -> dict[str, str]:
    names = {"masked": "conv1", "mix1": "conv2.0", "mix2": "conv3.0", "out": "conv4.0"}
    ends = {"head": "conv0.0"} | {f"tail{n + 1}": f"fusion.{2 * n}" for n in range(4)}
    return ends | _branches(modules, names, "DCMs", lambda n: f"branch{n}_")


_NAMINGS: Final = (
    _Naming("head.conv", r"b[12]\.dcms\.(\d{1,2})\..*", _with_centre_weight, "center_weight", UNIT),
    _Naming("conv0.0", r"branch[12]_DCMs\.(\d{1,2})\..*", _with_masks, "mask", WHOLE_IMAGE),
)
"""Both versions of the port: the first divides images by 255, the second normalizes them as the paper does."""


def _another_network(path: Path, what: str, details: list[str]) -> TrainingError:
    return TrainingError(
        f"{path} holds another network than a C-BSN of the known PyTorch port: {what}; got {_some(details)}",
        hint="For any other network, save a torch.export program and import that; see docs/guides/bring-your-own.md.",
    )


def _some(details: list[str]) -> str:
    """Format the first few details, and the number of the others."""
    more = len(details) - _SHOWN
    return "; ".join(details[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")


def _reason(error: Exception) -> str:
    """Return the first line of an error of PyTorch or safetensors."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
