"""The self-test that every bundle contains: a small image and the float network's output for it.

A variant is checked the first time it is loaded on a device: its output must be as close to the float output as its
precision allows. A passed self-test is recorded per file, runtime version and machine, and is not run again.
"""

from __future__ import annotations

import hashlib
import platform
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import platformdirs

from edgedenoise.errors import IntegrityError, OutputError, ParityError
from edgedenoise.files import write_bytes
from edgedenoise.imaging.metrics import psnr_unit
from edgedenoise.runtimes.machine import cpu_name
from edgedenoise.runtimes.pipeline import run_image

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Variant
    from edgedenoise.runtimes.checked import CheckedSession

PICTURE_FILE = "selftest/picture.npy"
ANSWER_FILE = "selftest/answer.npy"

FLOAT_BOUND_DB = 80.0
"""Float variants differ by rounding only: measured 110 dB and more between backends."""
FP16_BOUND_DB = 50.0
"""Half precision: ten bits of mantissa, rounded at every layer; measured 60 dB and more."""
W8A16_BOUND_DB = 30.0
"""8-bit weights without any calibration."""
INT8_SLACK_DB = 1.0
"""A backend's integer kernels may differ from exact W8A8 by this much; more is a kernel problem."""


@dataclass(frozen=True)
class SelfTestResult:
    """How close a variant came to the float answer."""

    psnr_db: float
    """Against the float answer, unit range, before clipping."""
    max_levels: float
    """Largest absolute difference in 8-bit levels."""
    bound_db: float
    """What was required."""

    @property
    def passed(self) -> bool:
        """Whether the variant is as close as its precision promises."""
        return self.psnr_db >= self.bound_db


def run_selftest(bundle: Bundle, variant: Variant, session: CheckedSession) -> SelfTestResult:
    """Run the self-test image through a session and compare with the stored float answer.

    Raises:
        IntegrityError: the self-test files are damaged.
        InferenceError: the session gave NaN, or failed.
    """
    image, answer = selftest_pair(bundle)
    manifest = bundle.manifest
    found = run_image(session, image, manifest.normalization, manifest.tiling)
    return SelfTestResult(
        psnr_db=psnr_unit(found, answer),
        max_levels=float(np.abs(found - answer).max() * 255),
        bound_db=_bound_db(variant),
    )


def _bound_db(variant: Variant) -> float:
    if variant.fidelity_db is not None:
        return variant.fidelity_db - INT8_SLACK_DB
    return {"fp16": FP16_BOUND_DB, "w8a16": W8A16_BOUND_DB}.get(variant.precision, FLOAT_BOUND_DB)


def selftest_pair(bundle: Bundle) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (image, float answer), each (3, H, W) float32 in unit range.

    Raises:
        IntegrityError: they are damaged, or no such pair.
    """
    try:
        image, answer = (np.load(bundle.file(name), allow_pickle=False) for name in (PICTURE_FILE, ANSWER_FILE))
    except ValueError as error:
        raise IntegrityError(f"{bundle.source}: the self-test cannot be read: {error}") from error
    if image.ndim != 3 or image.shape[0] != 3 or image.shape != answer.shape:
        raise IntegrityError(
            f"{bundle.source}: the self-test is {image.shape} and {answer.shape}; both must be (3, H, W)"
        )
    return image, answer


def selftest_on_first_use(bundle: Bundle, variant: Variant, session: CheckedSession) -> None:
    """Run the self-test unless this variant has passed it on this machine before.

    Raises:
        ParityError: the variant's output on this device is farther from the float output than its precision allows.
    """
    if bundle.is_lone_file:  # no self-test to run
        return
    for name in (PICTURE_FILE, ANSWER_FILE):
        bundle.file(name)  # without a sound self-test nothing is taken on trust
    marker = _marker(bundle, variant, session)
    if marker.is_file():
        return
    result = run_selftest(bundle, variant, session)
    if not result.passed:
        raise ParityError(
            f"{bundle.source}: {variant.name} fails its self-test on {session.effective.runtime}"
            f" {session.effective.version} ({session.effective.detail}): {result.psnr_db:.1f} dB to the float answer,"
            f" at least {result.bound_db:.1f} dB expected; largest difference {result.max_levels:.1f} levels",
            hint=f"see them all: edgedenoise verify {bundle.source}; use another: --runtime, --precision",
        )
    with suppress(OutputError):  # a read-only home only means that the test runs again next time
        write_bytes(marker, b"")


def _marker(bundle: Bundle, variant: Variant, session: CheckedSession) -> Path:
    records = [
        *bundle.variant_records(variant).values(),
        *(bundle.manifest.files[n] for n in (PICTURE_FILE, ANSWER_FILE)),
    ]
    what = [*(record.sha256 for record in records), str(session.effective), platform.node(), cpu_name()]
    name = hashlib.sha256("\n".join(what).encode()).hexdigest()
    return platformdirs.user_cache_path("edgedenoise") / "selftests" / name
