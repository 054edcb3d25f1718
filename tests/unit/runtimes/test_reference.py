"""The reference execution: one function that runs an ONNX model in memory, node by node in float."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.errors import InferenceError
from edgedenoise.runtimes.base import SessionOptions
from edgedenoise.runtimes.onnxruntime import reference
from edgedenoise.runtimes.opening import open_variant

if TYPE_CHECKING:
    from pathlib import Path

X = np.random.default_rng(0).random((1, 3, 40, 56), np.float32)


@pytest.mark.parametrize("name", ["onnx-fp32", "onnx-int8-u8s7"])
def test_bytes_give_what_an_unfused_session_gives(committed_bundle: Path, name: str) -> None:
    bundle = Bundle.open(committed_bundle)
    variant = bundle.variant(name)
    model = bundle.model_files(variant).data
    with open_variant(bundle, variant, options=SessionOptions(fused=False), selftest=False) as session:
        expected = session.run(X)
    np.testing.assert_array_equal(reference.run(model, {"image": X})["denoised"], expected)
    with reference.open_reference(model, threads=1) as session:
        np.testing.assert_array_equal(session.run(X), expected)
        assert "reference execution" in session.effective.detail


def test_any_output_can_be_had_by_its_name(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    opened = reference.Reference(bundle.model_files(bundle.variant("onnx-fp32")).data, threads=1)
    assert opened.outputs == ("denoised",)
    assert list(opened.run({"image": X}, ["denoised"])) == ["denoised"]


def test_what_is_no_model_is_an_error() -> None:
    with pytest.raises(InferenceError, match="cannot open the model in memory"):
        reference.run(b"this is not ONNX", {"image": X})
