"""Take a bundle to other programs: a lone ONNX file, a folder for Hugging Face, or a package for darktable.

darktable reads `.dtmodel`, a zip of `<id>/config.json` and `<id>/model.onnx`. Its tensors are `input` and `output`,
[1, 3, height, width], sRGB in [0, 1], and it overlaps tiles by 64 pixels (its dev-doc/AI_Tasks.md).
"""

from __future__ import annotations

import json
import re
import stat
import zipfile
from typing import TYPE_CHECKING, Any, Final

from edgedenoise.atomic import atomic_file, atomic_folder, output_errors, write_bytes
from edgedenoise.bundles import archive
from edgedenoise.bundles.bundle import METADATA_KEY
from edgedenoise.bundles.model_card import model_card
from edgedenoise.calibration.calibrate import FLOAT_VARIANT
from edgedenoise.calibration.graphs import load_onnx
from edgedenoise.errors import IncompatibleError, OutputError, UsageError
from edgedenoise.runtimes.base import INPUT_NAME, OUTPUT_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from edgedenoise.bundles.bundle import Bundle

DARKTABLE_OVERLAP_PX: Final = 64
"""Context that darktable gives a tile on each side."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_FRONT: Final = "---"
_HUB_CARD: Final = "README.md"


def write_lone_onnx(bundle: Bundle, out: Path, *, variant: str = FLOAT_VARIANT) -> Path:
    """Write an ONNX variant as one file, with the metadata by which `edgedenoise.load` reads it alone.

    Args:
        bundle: an opened bundle.
        out: file to write; an existing file is replaced.
        variant: name of the variant.

    Returns:
        The file.

    Raises:
        IncompatibleError: the bundle has no such variant, or it is not an ONNX graph.
        OutputError: the file cannot be written.
    """
    if out.suffix != ".onnx":
        raise UsageError(f"{out} is not accepted: expected a name that ends in .onnx")
    write_bytes(out, _onnx_bytes(bundle, variant))
    return out


def write_hub_folder(bundle: Bundle, out: Path, *, license_id: str) -> Path:
    """Write a folder to upload to Hugging Face: the card, the float ONNX file, and the whole bundle as an archive.

    Args:
        bundle: an opened bundle folder.
        out: folder to write; an earlier one of this kind is replaced.
        license_id: licence of the weights as Hugging Face names it, for example `apache-2.0`.

    Returns:
        The folder.

    Raises:
        OutputError: `out` exists and is not such a folder, or cannot be written.
        IncompatibleError: the bundle has no float ONNX variant.
    """
    if out.exists() and not _is_hub_folder(out):
        raise OutputError(
            f"{out} exists and is not a folder made by pack --to hf, so it is not overwritten",
            hint="Choose another name with -o, or remove it first.",
        )
    data = _onnx_bytes(bundle, FLOAT_VARIANT)
    with atomic_folder(out) as temporary, output_errors(out):
        (temporary / "model.onnx").write_bytes(data)
        archive.pack(bundle.root, temporary / _archive_name(bundle))
        (temporary / _HUB_CARD).write_text(_hub_card(bundle, license_id), encoding="utf-8")
    return out


def write_dtmodel(bundle: Bundle, out: Path, *, license_id: str) -> Path:
    """Write a package for darktable's AI denoise. The same bundle gives the same bytes.

    Args:
        bundle: an opened bundle.
        out: file to write, whose name ends in `.dtmodel`; an existing file is replaced.
        license_id: licence of the weights, for example `Apache-2.0`.

    Returns:
        The file.

    Raises:
        UsageError: the name does not end in `.dtmodel`.
        IncompatibleError: darktable does not give the network what it needs; the message says what.
        OutputError: the file cannot be written.
    """
    if out.suffix != ".dtmodel":
        raise UsageError(f"{out} is not accepted: expected a name that ends in .dtmodel")
    _check_darktable(bundle)
    name = darktable_id(bundle.manifest.name)
    config = json.dumps(_darktable_config(bundle, name, license_id), indent=2) + "\n"
    members = {f"{name}/config.json": config.encode(), f"{name}/model.onnx": _darktable_graph(bundle, license_id)}
    with (
        atomic_file(out, durable=True) as temporary,
        output_errors(out),
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as package,
    ):
        for path, data in members.items():
            info = zipfile.ZipInfo(path, _EPOCH)
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.create_system = 3
            package.writestr(info, data)
    return out


def darktable_id(name: str) -> str:
    """Return the id of a model as darktable names them: task first, lower case, hyphens.

    Example:
        >>> darktable_id("My Camera_2")
        'denoise-my-camera-2'
    """
    return "denoise-" + (re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "edgedenoise")


def _onnx_bytes(bundle: Bundle, name: str) -> bytes:
    variant = bundle.variant(name)
    if not variant.path.endswith(".onnx"):
        raise IncompatibleError(
            f"{name} is not an ONNX graph: {variant.path}",
            hint="Name another variant with --variant: " + ", ".join(_onnx_variants(bundle)),
        )
    return bundle.model_files(variant).data


def _onnx_variants(bundle: Bundle) -> list[str]:
    return [variant.name for variant in bundle.manifest.variants if variant.path.endswith(".onnx")]


def _archive_name(bundle: Bundle) -> str:
    return f"{bundle.manifest.name}.edge"


def _is_hub_folder(path: Path) -> bool:
    """Return whether a folder holds what `write_hub_folder` writes, and nothing else."""
    if not path.is_dir():
        return False
    names = {one.name for one in path.iterdir()}
    return {_HUB_CARD, "model.onnx"} <= names and len(names) == 3 and any(name.endswith(".edge") for name in names)


def _hub_card(bundle: Bundle, license_id: str) -> str:
    """Return the card: metadata that Hugging Face reads, the bundle's own card, and how to use the files."""
    front = {
        "license": license_id,
        "library_name": "edgedenoise",
        "pipeline_tag": "image-to-image",
        "tags": ["image-denoising", "onnx", "int8", "edge"],
    }
    lines = [_FRONT, *(f"{key}: {json.dumps(value)}" for key, value in front.items()), _FRONT, ""]
    lines += [model_card(bundle.manifest).strip(), "", "## Use", ""]
    lines += [f"`{_archive_name(bundle)}` is the whole bundle, `model.onnx` the float network alone.", "", "```sh"]
    lines += ["pip install edgedenoise", f"edgedenoise denoise photo.jpg -o clean.jpg --model {_archive_name(bundle)}"]
    return "\n".join([*lines, "```", ""])


def _check_darktable(bundle: Bundle) -> None:
    """Check that darktable gives a network what it needs.

    Raises:
        IncompatibleError: it does not.
    """
    manifest = bundle.manifest
    if manifest.normalization != "unit":
        why = f"the network takes pixels normalized by the whole image ({manifest.normalization}); darktable gives"
        why += " tiles in [0, 1]"
    elif manifest.noise_level is not None:
        why = "the network takes the noise level as a fourth channel, which darktable does not estimate"
    elif not manifest.tiling.is_exact:
        why = "the network looks at the whole image, and darktable does not blend tiles"
    elif manifest.tiling.halo_px > DARKTABLE_OVERLAP_PX:
        why = f"the network looks {manifest.tiling.halo_px} px far; darktable overlaps tiles by {DARKTABLE_OVERLAP_PX}"
    else:
        return
    raise IncompatibleError(
        f"{bundle.source} cannot be packed for darktable: {why}",
        hint="Take a network with the normalization unit and without a noise level, such as edge or edge-tiny.",
    )


def _darktable_graph(bundle: Bundle, license_id: str) -> bytes:
    """Return the float graph with the names of darktable, and its provenance as metadata."""
    model = load_onnx(_onnx_bytes(bundle, FLOAT_VARIANT))
    names = {INPUT_NAME: "input", OUTPUT_NAME: "output"}
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    for value in (*model.graph.input, *model.graph.output):
        value.name = names.get(value.name, value.name)
    kept = [one for one in model.metadata_props if one.key != METADATA_KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key="license", value=license_id)
    model.metadata_props.add(key="source", value=f"{bundle.manifest.name}, {bundle.manifest.created_by}")
    return bytes(model.SerializeToString(deterministic=True))


def _darktable_config(bundle: Bundle, name: str, license_id: str) -> dict[str, Any]:
    manifest = bundle.manifest
    training = manifest.training
    return {
        "id": name,
        "name": f"denoise {manifest.name}",
        "description": f"{manifest.network.name}, made with {manifest.created_by}",
        "task": "denoise",
        "arch": "generic",
        "backend": "onnx",
        "version": "1.0",
        "tiling": True,
        "num_inputs": 1,
        "model_card": {
            "long_description": model_card(manifest),
            "scope": "single-image denoising",
            "source": f"edgedenoise bundle {manifest.name}, SHA-256 of the manifest {manifest.digest}",
            "license": license_id,
            "training_data": "not recorded" if training is None else f"objective {training.objective}, see the card",
        },
    }
