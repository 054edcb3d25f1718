"""Weights of C-BSN from the PyTorch port: the same output under our names, and errors that name what differs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[train]'")

from cbsn_port import CentrePort, MaskPort
from safetensors.torch import save_file

from edgedenoise.errors import TrainingError
from edgedenoise.imaging.normalize import UNIT, WHOLE_IMAGE
from edgedenoise.training.networks.families import build_network
from edgedenoise.training.torch_import import load_torch_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn


def _ours(path: Path) -> nn.Module:
    found = load_torch_checkpoint(path)
    network = build_network(found.spec)
    network.load_state_dict(found.weights)
    return network.eval()


def _saved(path: Path, port: nn.Module) -> Path:
    torch.save(port.state_dict(), path)
    return path


@pytest.mark.parametrize(("width", "modules"), [(8, 2), (5, 11)])
def test_the_port_with_centre_weights_computes_the_same_blind_and_not(width: int, modules: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    port = CentrePort(width, modules).eval()
    path = _saved(tmp_path / "port.pt", port)
    found = load_torch_checkpoint(path)
    assert (found.spec.name, found.normalization) == (f"cbsn-{width}x{modules}", UNIT)
    x = torch.rand(1, 3, 40, 52)
    with torch.inference_mode():
        for blind in (False, True):
            expected = port(x, blind)
            assert expected.std() > 0.01
            torch.testing.assert_close(_ours(path)(x, blind=blind), expected, atol=1e-6, rtol=1e-6)


def test_the_port_with_masks_computes_the_same_where_the_centre_is_seen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    port = MaskPort().eval()
    save_file(port.state_dict(), tmp_path / "port.safetensors")
    assert load_torch_checkpoint(tmp_path / "port.safetensors").normalization == WHOLE_IMAGE
    x = torch.randn(1, 3, 40, 52)
    with torch.inference_mode():
        torch.testing.assert_close(_ours(tmp_path / "port.safetensors")(x), port(x), atol=1e-6, rtol=1e-6)


def test_a_port_that_was_only_trained_blind_is_refused(tmp_path: Path) -> None:
    path = _saved(tmp_path / "port.pth", MaskPort(blind=True))
    with pytest.raises(TrainingError, match=r"blind network alone: branch1_conv1\.mask hides the centre"):
        load_torch_checkpoint(path)


def test_a_checkpoint_with_optimizer_and_prefix_is_read(tmp_path: Path) -> None:
    port = CentrePort()
    optimizer = torch.optim.Adam(port.parameters())
    port(torch.rand(1, 3, 16, 16)).sum().backward()
    optimizer.step()
    state = {f"module.{name}": value for name, value in port.state_dict().items()}
    whole = {"step": 7, "model": state, "optimizer": optimizer.state_dict(), "args": {"lr": 1e-4}}
    torch.save(whole, tmp_path / "port.pt")
    assert load_torch_checkpoint(tmp_path / "port.pt").spec.name == "cbsn-8x2"
    whole["ema"] = port.state_dict()
    torch.save(whole, tmp_path / "port.pt")
    with pytest.raises(TrainingError, match="no single state dict: expected names with tensors, got 2 of them: ema"):
        load_torch_checkpoint(tmp_path / "port.pt")


def test_missing_unknown_and_misshapen_names_are_listed(tmp_path: Path) -> None:
    state = CentrePort().state_dict()
    del state["b2.masked.center_weight"]
    state["f2.conv.weight"] = state["f2.conv.weight"][:32]
    state["f3.conv.bias"] = state["f3.conv.bias"].to(torch.int64)
    state["f4.conv.bias"] = torch.zeros(3)
    torch.save(state, tmp_path / "port.pt")
    with pytest.raises(TrainingError, match="as cbsn-8x2 it has 4 differences") as caught:
        load_torch_checkpoint(tmp_path / "port.pt")
    for difference in (
        "b2.masked.center_weight (8, 8, 1, 1) is missing",
        "f2.conv.weight is float32 (32, 8, 1, 1), not float (64, 8, 1, 1)",
        "f3.conv.bias is int64 (64,), not float (64,)",
        "f4.conv.bias is not part of it",
    ):
        assert difference in caught.value.message


def test_another_network_and_a_gray_one_are_refused(tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(3, 3, 1).state_dict(), tmp_path / "other.pt")
    with pytest.raises(TrainingError, match=r"expected the name head\.conv\.weight or conv0\.0\.weight; got bias; wei"):
        load_torch_checkpoint(tmp_path / "other.pt")
    state = CentrePort().state_dict()
    state["head.conv.weight"] = state["head.conv.weight"][:, :1]
    torch.save(state, tmp_path / "gray.pt")
    with pytest.raises(TrainingError, match=r"head\.conv\.weight is float32 \(8, 1, 1, 1\)"):
        load_torch_checkpoint(tmp_path / "gray.pt")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = CentrePort().state_dict()
    state["f1.conv.bias"][3] = torch.nan
    torch.save(state, tmp_path / "port.pt")
    with pytest.raises(TrainingError, match="not finite"):
        load_torch_checkpoint(tmp_path / "port.pt")


def test_code_in_a_file_is_not_run(tmp_path: Path) -> None:
    """A pickle that makes a folder when it is loaded, alone and beside weights."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "ran"),)

    for content in (Evil(), {"model": CentrePort().state_dict(), "args": Evil()}, CentrePort()):
        torch.save(content, tmp_path / "evil.pt")
        with pytest.raises(TrainingError, match="expected tensors alone, got objects of Python") as caught:
            load_torch_checkpoint(tmp_path / "evil.pt")
        assert "torch.save(network.state_dict()" in caught.value.hint
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["port.pt", "port.safetensors"])
def test_missing_and_damaged_files_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    with pytest.raises(TrainingError, match="cannot be read: No such file"):
        load_torch_checkpoint(path)
    for content in (b"", b"not weights", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match=r"is not read|cannot be read"):
            load_torch_checkpoint(path)
    if path.suffix == ".pt":
        _saved(path, CentrePort())
    else:
        save_file(CentrePort().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(TrainingError, match=r"is not read|cannot be read"):
        load_torch_checkpoint(path)
