"""The model card states the measured loss of INT8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import HeldOutLoss, Manifest
from edgedenoise.bundles.model_card import model_card

if TYPE_CHECKING:
    from pathlib import Path


def with_loss(bundle: Path, loss: HeldOutLoss | None) -> Manifest:
    manifest = Bundle.open(bundle).manifest
    variants = [v if v.encoding is None else msgspec.structs.replace(v, loss=loss) for v in manifest.variants]
    return msgspec.structs.replace(manifest, variants=variants)


def test_a_small_loss_is_stated(tiny_bundle: Path) -> None:
    card = model_card(with_loss(tiny_bundle, HeldOutLoss(0.034, 0.07, 12, "clean")))
    assert "- `u8s7`: 0.03 dB lost in the mean and 0.07 dB on the worst of 12 images." in card
    assert "not recommended" not in card
    assert "Without clean images" not in card


def test_a_large_loss_is_marked(tiny_bundle: Path) -> None:
    card = model_card(with_loss(tiny_bundle, HeldOutLoss(0.36, 1.26, 12, "replayed")))
    assert "- `u8s7`: not recommended: 0.36 dB lost in the mean and 1.26 dB on the worst of 12 images." in card
    assert "Without clean images" in card


def test_nothing_is_said_where_nothing_was_measured(tiny_bundle: Path) -> None:
    assert "Loss of INT8" not in model_card(with_loss(tiny_bundle, None))
