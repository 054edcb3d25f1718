"""Format the model card of a bundle: the network, how it was trained, and its measured quality."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgedenoise.bundles.manifest import Manifest, Parity


def model_card(manifest: Manifest) -> str:
    """Return the text of `MODEL_CARD.md` for a manifest."""
    network, tiling = manifest.network, manifest.tiling
    lines = [
        f"# {manifest.name}",
        "",
        f"Made by {manifest.created_by}. {_purpose(manifest)}",
        "",
        "| | |",
        "|-|-|",
        f"| network | {network.name} |",
        f"| parameters | {network.parameters:,} |",
        f"| cost | {network.macs_per_px:,} multiply-accumulates per pixel |",
        f"| normalization | {manifest.input_normalization} |",
        f"| halo | {tiling.halo_px} pixels |",
    ]
    if not tiling.is_exact:
        lines.append(f"| tiles | blended over {2 * tiling.strip_px} pixels, not exact |")
    if manifest.noise_level is not None:
        level = manifest.noise_level
        lines.append(f"| fourth input channel | noise level, {level.estimator} {level.version}, gain {level.gain:g} |")
    if manifest.training is not None:
        training = manifest.training
        lines.append(
            f"| trained | {training.steps:,} steps in {training.hours:g} hours, objective `{training.objective}` |"
        )
    if manifest.parity is not None:
        lines.append(f"| ONNX against PyTorch | {_parity(manifest.parity)} |")
    if manifest.calibration is not None:
        c = manifest.calibration
        noise = f", noise levels {', '.join(f'{level:g}' for level in c.noise_levels)}" if c.noise_levels else ""
        lines.append(f"| calibrated on | {c.crops} crops of {c.images} images, seed {c.seed}{noise} |")
    lines += [
        "",
        "## Variants",
        "",
        "| variant | runtime | precision | PSNR to float, self-test |",
        "|-|-|-|-|",
    ]
    for variant in manifest.variants:
        fidelity = "reference" if variant.fidelity_db is None else f"{variant.fidelity_db:.1f} dB"
        lines.append(f"| {variant.name} | {variant.runtime} | {variant.precision} | {fidelity} |")
    lines += _losses(manifest)
    if manifest.about:
        lines += ["", manifest.about.strip()]
    lines += ["", "## Limits", "", _training_limit(manifest), _LOST, ""]
    return "\n".join(lines)


def _losses(manifest: Manifest) -> list[str]:
    """Return one line on the measured loss of each encoding; no line where none was measured."""
    losses = {v.encoding.scheme: v for v in manifest.variants if v.encoding is not None and v.loss is not None}
    lines = [f"- `{scheme}`: {v.not_recommended or v.loss}." for scheme, v in losses.items()]
    truths = {v.loss.truth for v in losses.values() if v.loss is not None}
    if "replayed" in truths:
        lines.append(_REPLAYED)
    return ["", "Loss of INT8 against float, on images that calibration did not use:", "", *lines] if lines else []


def _parity(parity: Parity) -> str:
    sizes = f"worst of {len(parity.sizes)} sizes" if len(parity.sizes) > 1 else "one size"
    if parity.max_error_lsb is None:
        return f"{parity.max_relative_error:.1e} relative, {sizes}"
    return f"at most {parity.max_error_lsb:.1g} 8-bit levels, {sizes}"


def _purpose(manifest: Manifest) -> str:
    if manifest.training is None:
        return "A denoiser whose training is not recorded."
    if _is_synthetic(manifest):
        return "A denoiser for images of any camera."
    return "A denoiser for images from the camera and settings it was trained on."


def _training_limit(manifest: Manifest) -> str:
    if manifest.training is None:
        return _UNRECORDED
    return _SYNTHETIC if _is_synthetic(manifest) else _OWN_NOISE


def _is_synthetic(manifest: Manifest) -> bool:
    known = manifest.training
    return known is not None and (known.objective == "supervised" or (known.objective == "qat" and known.clean))


_REPLAYED = """\
- Without clean images, the float output took their place: the noise that it lacks was added to it again elsewhere."""
_UNRECORDED = """\
How the network was trained is not recorded: measure it on images of your own camera before you rely on it."""
_OWN_NOISE = """\
Trained on noisy images: it removes the noise of those images, and less well that of other cameras."""
_SYNTHETIC = """\
Trained on clean images with synthetic noise of many cameras and levels: it removes the noise of your camera as far as
the synthetic noise resembles it. Noise that a camera has already smoothed is removed only in part; for that, train on
your own images."""
_LOST = """\
Images that were resized or denoised before have lost the noise that it removes."""
