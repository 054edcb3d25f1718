"""The self-test that every bundle contains: a small image and the float network's output for it.

A variant is checked the first time it is loaded on a device: its output must be as close to the float output as its
precision allows, and must be the same when the image is run in tiles. A passed self-test is recorded for the whole
record of the variant, its files, the runtime version and the machine, and is not run again.
"""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import platformdirs

from edgedenoise.atomic import write_bytes
from edgedenoise.bundles.contents import read_array
from edgedenoise.bundles.manifest import embedded_metadata
from edgedenoise.errors import IntegrityError, OutputError, ParityError
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.runtimes.base import CHANNELS
from edgedenoise.runtimes.machine import cpu_name
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.shell import command_line

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.runtimes.checked import CheckedSession

IMAGE_FILE = "selftest/picture.npy"
ANSWER_FILE = "selftest/answer.npy"
MAX_IMAGE_PX = 1024
"""Largest accepted side of the self-test's image: it is run at the first use on every device."""

FLOAT_BOUND_DB = 80.0
"""Bound for float variants, which differ by rounding only; measured 110 dB and more between backends."""
FP16_BOUND_DB = 50.0
"""Bound for half precision: ten bits of mantissa, rounded at every layer; measured 60 dB and more."""
W8A16_BOUND_DB = 30.0
"""Bound for 8-bit weights, which need no calibration."""
TILED_BOUND_DB = 90.0
"""Bound between tiles and the whole image for float variants; ONNX Runtime gives equal values."""
TILED_ROUNDED_BOUND_DB = 60.0
"""The same for other precisions, where a difference that is invisible in float may fall on a rounding tie."""
MIN_INT8_BOUND_DB = 15.0
"""Least bound of an INT8 variant, whatever fidelity its record states: below, the image is not recognisable."""
INT8_SLACK_DB = 1.0
"""Accepted loss of integer kernels against the reference execution; a larger loss is a kernel problem."""


_TEST = 2
"""Number of the self-test's form: results of an earlier form do not count."""


@dataclass(frozen=True)
class SelfTestResult:
    """How close a variant is to the float output."""

    psnr_db: float
    """PSNR to the float output, unit range, before clipping."""
    max_error_lsb: float
    """Maximum absolute error in 8-bit levels."""
    bound_db: float
    """PSNR that the precision must reach."""
    tiled_psnr_db: float
    """PSNR of the image run in tiles to the image run whole, on the same session."""
    tiled_max_error_lsb: float
    """Maximum absolute difference between tiles and the whole image in 8-bit levels."""
    tiled_bound_db: float | None
    """PSNR that tiles must reach; less means that the halo of the manifest is too small. None for tiles that are
    blended, which are measured and not judged."""
    output: NDArray[np.float32] = field(repr=False, compare=False)
    """The variant's output, (3, H, W) in unit range."""

    @property
    def passed(self) -> bool:
        """Whether the variant is as close as its precision requires, whole and in tiles."""
        return self.reason is None

    @property
    def reason(self) -> str | None:
        """What the variant fails at; None when it has passed."""
        if not self.psnr_db >= self.bound_db:  # NaN fails too
            return (
                f"expected at least {self.bound_db:.1f} dB to the float output, got {self.psnr_db:.1f} dB; maximum"
                f" absolute error {self.max_error_lsb:.1f} 8-bit levels"
            )
        if self.tiled_bound_db is not None and not self.tiled_psnr_db >= self.tiled_bound_db:
            return (
                f"tiles change the output: expected at least {self.tiled_bound_db:.1f} dB to the whole image, got"
                f" {self.tiled_psnr_db:.1f} dB; the halo or the alignment in the manifest is not the network's"
            )
        return None


def run_selftest(bundle: Bundle, variant: Variant, session: CheckedSession) -> SelfTestResult:
    """Run the self-test image through a session and compare it with the stored float output.

    Raises:
        IntegrityError: the self-test files are damaged.
        InferenceError: the session returned values that are not finite, or failed.
    """
    image, answer = selftest_pair(bundle)
    manifest = bundle.manifest
    found = run_image(session, image, manifest.input_normalization, manifest.tiling)
    half = max(manifest.tiling.multiple_of, max(image.shape[1:]) // 2)
    tiled = run_image(session, image, manifest.input_normalization, manifest.tiling, tile=half)
    return SelfTestResult(
        psnr_db=psnr_unit(found, answer),
        max_error_lsb=float(np.abs(found - answer).max() * 255),
        bound_db=_bound_db(variant),
        tiled_psnr_db=psnr_unit(tiled, found),
        tiled_max_error_lsb=float(np.abs(tiled - found).max() * 255),
        tiled_bound_db=_tiled_bound_db(bundle, variant),
        output=found,
    )


def _tiled_bound_db(bundle: Bundle, variant: Variant) -> float | None:
    if not bundle.manifest.tiling.is_exact:
        return None
    return TILED_BOUND_DB if variant.precision == "fp32" else TILED_ROUNDED_BOUND_DB


def _bound_db(variant: Variant) -> float:
    """Return what a variant must reach. The fidelity in its record counts for INT8 alone, and within bounds."""
    if variant.precision == "int8" and variant.fidelity_db is not None:
        return max(variant.fidelity_db - INT8_SLACK_DB, MIN_INT8_BOUND_DB)
    return {"fp16": FP16_BOUND_DB, "w8a16": W8A16_BOUND_DB}.get(variant.precision, FLOAT_BOUND_DB)


def selftest_pair(bundle: Bundle) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (image, float output), float32 in unit range: (3, H, W) each, the image (4, H, W) with a noise level.

    Raises:
        IntegrityError: the files are damaged, or do not belong together.
    """
    image, answer = (read_array(bundle.read(name), f"{bundle.source}: {name}") for name in (IMAGE_FILE, ANSWER_FILE))
    channels = bundle.manifest.input_channels
    if image.ndim != 3 or image.shape[0] != channels or answer.shape != (CHANNELS, *image.shape[1:]):
        raise IntegrityError(
            f"{bundle.source}: the self-test has the shapes {image.shape} and {answer.shape};"
            f" expected ({channels}, H, W) and ({CHANNELS}, H, W)"
        )
    if any(one.dtype != np.float32 or one.size == 0 for one in (image, answer)) or not np.isfinite(image).all():
        raise IntegrityError(f"{bundle.source}: the self-test has no finite float32 values, or none at all")
    if max(image.shape[1:]) > MAX_IMAGE_PX:
        raise IntegrityError(
            f"{bundle.source}: the self-test has {image.shape[2]}x{image.shape[1]} pixels; expected at most"
            f" {MAX_IMAGE_PX} on a side"
        )
    return image, answer


def selftest_on_first_use(bundle: Bundle, variant: Variant, session: CheckedSession) -> None:
    """Run the self-test unless this variant has passed it on this machine before.

    Raises:
        ParityError: the variant's output on this device is farther from the float output than its precision allows.
    """
    if bundle.is_lone_file:  # no self-test to run
        return
    for name in (IMAGE_FILE, ANSWER_FILE):
        bundle.file(name)  # a damaged self-test is an error, even where it was passed before
    marker = _marker(bundle, variant, session)
    if marker.is_file():
        return
    result = run_selftest(bundle, variant, session)
    if not result.passed:
        raise ParityError(
            f"{bundle.source}: {variant.name} fails its self-test on {session.effective.runtime}"
            f" {session.effective.version} ({session.effective.detail}): {result.reason}",
            hint=f"Check all variants with: {command_line('verify', bundle.source)}; choose another with --runtime or"
            " --precision",
        )
    with suppress(OutputError):  # a read-only home only means that the test runs again next time
        write_bytes(marker, b"")


def _marker(bundle: Bundle, variant: Variant, session: CheckedSession) -> Path:
    """Return the file that records that a variant has passed; its name covers all that the result rests on."""
    files = {**bundle.variant_records(variant), **{n: bundle.manifest.files[n] for n in (IMAGE_FILE, ANSWER_FILE)}}
    what = {
        "test": _TEST,
        "variant": msgspec.json.decode(embedded_metadata(bundle.manifest, variant)),
        "files": {name: record.sha256 for name, record in files.items()},
        "session": [repr(session.effective), platform.node(), cpu_name()],
    }
    name = hashlib.sha256(msgspec.json.encode(what, order="sorted")).hexdigest()
    return platformdirs.user_cache_path("edgedenoise") / "selftests" / name
