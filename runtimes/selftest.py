"""The self-test that every bundle contains: a small image and the float network's output for it.

A variant is checked the first time it is loaded on a device: its output must be as close to the float output as its
precision allows. A passed self-test is recorded per file, runtime version and machine, and is not run again.
"""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import platformdirs

from edgedenoise.atomic import write_bytes
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

FLOAT_BOUND_DB = 80.0
"""Bound for float variants, which differ by rounding only; measured 110 dB and more between backends."""
FP16_BOUND_DB = 50.0
"""Bound for half precision: ten bits of mantissa, rounded at every layer; measured 60 dB and more."""
W8A16_BOUND_DB = 30.0
"""Bound for 8-bit weights, which need no calibration."""
INT8_SLACK_DB = 1.0
"""Accepted loss of integer kernels against the reference execution; a larger loss is a kernel problem."""


@dataclass(frozen=True)
class SelfTestResult:
    """How close a variant is to the float output."""

    psnr_db: float
    """PSNR to the float output, unit range, before clipping."""
    max_error_lsb: float
    """Maximum absolute error in 8-bit levels."""
    bound_db: float
    """PSNR that the precision must reach."""
    output: NDArray[np.float32] = field(repr=False, compare=False)
    """The variant's output, (3, H, W) in unit range."""

    @property
    def passed(self) -> bool:
        """Whether the variant is as close as its precision requires."""
        return self.psnr_db >= self.bound_db


def run_selftest(bundle: Bundle, variant: Variant, session: CheckedSession) -> SelfTestResult:
    """Run the self-test image through a session and compare it with the stored float output.

    Raises:
        IntegrityError: the self-test files are damaged.
        InferenceError: the session returned values that are not finite, or failed.
    """
    image, answer = selftest_pair(bundle)
    manifest = bundle.manifest
    found = run_image(session, image, manifest.input_normalization, manifest.tiling)
    return SelfTestResult(
        psnr_db=psnr_unit(found, answer),
        max_error_lsb=float(np.abs(found - answer).max() * 255),
        bound_db=_bound_db(variant),
        output=found,
    )


def _bound_db(variant: Variant) -> float:
    if variant.fidelity_db is not None:
        return variant.fidelity_db - INT8_SLACK_DB
    return {"fp16": FP16_BOUND_DB, "w8a16": W8A16_BOUND_DB}.get(variant.precision, FLOAT_BOUND_DB)


def selftest_pair(bundle: Bundle) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (image, float output), float32 in unit range: (3, H, W) each, the image (4, H, W) with a noise level.

    Raises:
        IntegrityError: the files are damaged, or do not belong together.
    """
    try:
        image, answer = (np.load(BytesIO(bundle.read(name)), allow_pickle=False) for name in (IMAGE_FILE, ANSWER_FILE))
    except (ValueError, EOFError) as error:
        raise IntegrityError(f"{bundle.source}: the self-test cannot be read: {error}") from error
    channels = bundle.manifest.input_channels
    if image.ndim != 3 or image.shape[0] != channels or answer.shape != (CHANNELS, *image.shape[1:]):
        raise IntegrityError(
            f"{bundle.source}: the self-test has the shapes {image.shape} and {answer.shape};"
            f" expected ({channels}, H, W) and ({CHANNELS}, H, W)"
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
            f" {session.effective.version} ({session.effective.detail}): expected at least {result.bound_db:.1f} dB to"
            f" the float output, got {result.psnr_db:.1f} dB; maximum absolute error {result.max_error_lsb:.1f} levels",
            hint=f"Check all variants with: {command_line('verify', bundle.source)}; choose another with --runtime or"
            " --precision",
        )
    with suppress(OutputError):  # a read-only home only means that the test runs again next time
        write_bytes(marker, b"")


def _marker(bundle: Bundle, variant: Variant, session: CheckedSession) -> Path:
    records = [
        *bundle.variant_records(variant).values(),
        *(bundle.manifest.files[n] for n in (IMAGE_FILE, ANSWER_FILE)),
    ]
    what = [*(record.sha256 for record in records), str(session.effective), platform.node(), cpu_name()]
    name = hashlib.sha256("\n".join(what).encode()).hexdigest()
    return platformdirs.user_cache_path("edgedenoise") / "selftests" / name
