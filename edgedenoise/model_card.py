"""The model card that every bundle carries: what the network is, what it was made from, and what it was measured at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedenoise.bundle import Manifest


def model_card(manifest: Manifest) -> str:
    """Return the text of `MODEL_CARD.md` for a manifest."""
    network, tiling = manifest.network, manifest.tiling
    lines = [
        f"# {manifest.name}",
        "",
        f"Made by {manifest.created_by}. A denoiser for photographs from the camera and settings it was trained on.",
        "",
        "| | |",
        "|-|-|",
        f"| network | {network.name} |",
        f"| parameters | {network.parameters:,} |",
        f"| cost | {network.macs_per_px:,} multiply-accumulates per pixel |",
        f"| normalization | {manifest.normalization} |",
        f"| halo | {tiling.halo_px} pixels |",
    ]
    if manifest.parity is not None:
        lines.append(
            f"| ONNX against PyTorch | {manifest.parity.max_relative_error:.1e} relative, worst of five sizes |"
        )
    if manifest.calibration is not None:
        known = manifest.calibration
        lines.append(f"| calibrated on | {known.crops} crops of {known.photographs} photographs, seed {known.seed} |")
    lines += [
        "",
        "## Variants",
        "",
        "| variant | runtime | precision | to the float answer, self-test |",
        "|-|-|-|-|",
    ]
    for variant in manifest.variants:
        fidelity = "reference" if variant.fidelity_db is None else f"{variant.fidelity_db:.1f} dB"
        lines.append(f"| {variant.name} | {variant.runtime} | {variant.precision} | {fidelity} |")
    lines += ["", "## Limits", "", _LIMITS, ""]
    return "\n".join(lines)


_LIMITS = """\
Trained on noisy photographs alone, without clean ones: it knows the noise of those photographs and not that of others.
Photographs that were resized or denoised before have lost the noise that it looks for."""
