"""Import from PyTorch: weights and programs become bundles that compute the same, and no file runs code unasked."""

from __future__ import annotations

import os
import shutil
import zipfile
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[export]'")
pytest.importorskip("onnxscript", reason="needs onnxscript: pip install 'edgedenoise[export]'")

from cbsn_port import CentrePort, MaskPort
from foreign_networks import DnCNN, FFDNet, NAFBlock, UNet, save_program

import edgedenoise
from edgedenoise.errors import ExportError, UsageError
from edgedenoise.imaging.normalize import UNIT, WHOLE_IMAGE
from edgedenoise.runtimes.noise_plane import SHIPPED
from edgedenoise.runtimes.onnxruntime.reference import run

if TYPE_CHECKING:
    from pathlib import Path

NETWORKS = {"dncnn": (DnCNN, (4, 1)), "ffdnet": (FFDNet, (5, 2)), "naf": (NAFBlock, (3, 1)), "unet": (UNet, (13, 4))}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_program_becomes_a_bundle_that_computes_the_same(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    make, field = NETWORKS[name]
    network, channels = make(), 4 if make is FFDNet else 3
    file = save_program(network, tmp_path / f"{name}.pt2", channels=channels)
    imported = edgedenoise.import_torch(file, tmp_path / "foreign.edge", trust_program=True)
    assert (imported.halo_px, imported.multiple_of) == field
    assert imported.measured_px == imported.halo_px
    assert imported.max_error_lsb < 0.02
    assert imported.bundle.manifest.input_channels == channels
    assert imported.bundle.manifest.network.name == name
    x = np.random.default_rng(2).random((1, channels, 64, 96), np.float32)
    found = run(imported.bundle.file("onnx-fp32/model.onnx").read_bytes(), {"image": x})["denoised"]
    x[:, 3:] /= SHIPPED.gain
    with torch.inference_mode():
        expected = network(torch.from_numpy(x)).numpy()
    inner = np.s_[..., 13:-13, 13:-13]  # borders that a network mirrors are the host's
    np.testing.assert_allclose(found[inner], expected[inner], atol=2e-5)
    assert edgedenoise.verify(imported.bundle.root).passed


def test_the_attention_of_nafnet_is_refused_with_the_reason_and_taken_in_blended_tiles(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = NAFBlock(attention=True)
    file = save_program(network, tmp_path / "nafnet.pt2")
    with pytest.raises(ExportError, match=r"cannot be tiled exactly: .* whole image"):
        edgedenoise.import_torch(file, tmp_path / "foreign.edge", trust_program=True)
    assert not (tmp_path / "foreign.edge").exists()
    imported = edgedenoise.import_torch(file, tmp_path / "foreign.edge", trust_program=True, tiling="blend")
    assert (imported.halo_px, imported.measured_px) == (3, None)
    x = np.random.default_rng(2).random((1, 3, 64, 96), np.float32)
    found = run(imported.bundle.file("onnx-fp32/model.onnx").read_bytes(), {"image": x})["denoised"]
    with torch.inference_mode():
        np.testing.assert_allclose(found, network(torch.from_numpy(x)).numpy(), atol=2e-5)


def test_weights_of_the_port_become_a_bundle_that_is_calibrated_quantized_and_verified(
    tmp_path: Path, noisy_folder: Path
) -> None:
    torch.manual_seed(0)
    port = CentrePort().eval()
    with torch.no_grad():  # outputs of the order of an image
        port.out.conv.weight.mul_(0.1)
    torch.save({"model": port.state_dict()}, tmp_path / "port.pt")
    imported = edgedenoise.import_torch(tmp_path / "port.pt", tmp_path / "port.edge")
    manifest = imported.bundle.manifest
    assert (manifest.network.name, manifest.input_normalization) == ("cbsn-8x2", UNIT)
    assert (imported.halo_px, imported.multiple_of) == (8, 1)
    assert 4 <= imported.measured_px <= 8  # a Relu may hide the farthest pixels
    x = np.random.default_rng(3).random((1, 3, 40, 52), np.float32)
    found = run(imported.bundle.file("onnx-fp32/model.onnx").read_bytes(), {"image": x})["denoised"]
    with torch.inference_mode():
        np.testing.assert_allclose(found, port(torch.from_numpy(x)).numpy(), atol=1e-6)
    edgedenoise.calibrate(imported.bundle.root, noisy_folder)
    edgedenoise.quantize(imported.bundle.root)
    assert {check.status for check in edgedenoise.verify(imported.bundle.root).variants} == {"passed"}


def test_the_normalization_is_that_of_the_code_unless_it_is_given(tmp_path: Path) -> None:
    torch.save(MaskPort(4, 1).state_dict(), tmp_path / "port.pt")
    kinds = {None: WHOLE_IMAGE.kind, "unit": "unit", "whole-image-bounded": "whole-image-bounded"}
    for given, kind in kinds.items():
        imported = edgedenoise.import_torch(tmp_path / "port.pt", tmp_path / "port.edge", normalization=given)
        assert imported.bundle.manifest.normalization == kind


def _with_code(program: Path, ran: Path) -> None:
    """Replace the example inputs of a program by a pickle that makes a folder when it is loaded."""

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(ran),)

    torch.save(Evil(), ran.with_suffix(".inputs"))
    whole = program.with_suffix(".whole")
    shutil.move(program, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(program, "w") as new:
        for name in old.namelist():
            evil = "sample_inputs" in name
            new.writestr(name, ran.with_suffix(".inputs").read_bytes() if evil else old.read(name))


def test_a_program_can_run_code_and_so_is_not_loaded_unasked(tmp_path: Path) -> None:
    """The second half shows that the warning is true; should torch stop it, the option is no longer needed."""
    file = save_program(torch.nn.Conv2d(3, 3, 3, padding=1), tmp_path / "evil.pt2")
    _with_code(file, tmp_path / "ran")
    with pytest.raises(ExportError, match=r"torch\.export\.load can run code that the file chooses") as caught:
        edgedenoise.import_torch(file, tmp_path / "evil.edge")
    assert f"import-torch {file} -o {tmp_path / 'evil.edge'} --trust-program" in caught.value.hint
    assert not (tmp_path / "ran").exists()
    with pytest.raises(ExportError, match=r"cannot be read as a torch\.export program"):
        edgedenoise.import_torch(file, tmp_path / "evil.edge", trust_program=True)
    assert (tmp_path / "ran").exists()
    assert not (tmp_path / "evil.edge").exists()


def test_files_that_are_no_programs_and_other_inputs_are_refused(tmp_path: Path) -> None:
    def refused(match: str, kind: type[Exception] = ExportError, name: str = "p.pt2") -> None:
        with pytest.raises(kind, match=match):
            edgedenoise.import_torch(tmp_path / name, tmp_path / "p.edge", trust_program=True)

    refused("cannot be read: No such file")
    (tmp_path / "p.pt2").write_bytes(b"no program")
    refused(r"cannot be read as a torch\.export program")
    save_program(torch.nn.Conv2d(5, 3, 1), tmp_path / "p.pt2", channels=5)
    refused(r"expected float \[1, 3, height, width\]")
    refused("--trust-program belongs to .pt2 files", UsageError, "p.pt")


def test_a_program_of_a_fixed_size_is_compared_at_that_size(tmp_path: Path) -> None:
    file = save_program(torch.nn.Conv2d(3, 3, 5, padding=2), tmp_path / "p.pt2", symbolic=False)
    imported = edgedenoise.import_torch(file, tmp_path / "p.edge", trust_program=True)
    assert (imported.halo_px, imported.measured_px) == (2, 2)
