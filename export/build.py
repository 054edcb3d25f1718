"""`edgedenoise build`: export, calibrate, quantize, compile and verify in one command."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.writer import check_replaceable
from edgedenoise.calibration.calibrate import calibrate
from edgedenoise.calibration.drawing import DEFAULT_COUNT
from edgedenoise.errors import ParityError
from edgedenoise.exporting.compile import compile as compile_target
from edgedenoise.exporting.quantization.qdq import quantize
from edgedenoise.exporting.verify import not_built, verify
from edgedenoise.files import atomic_folder
from edgedenoise.progress import Progress, silent
from edgedenoise.runtimes.registry import registry

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Literal

    from edgedenoise.exporting.quantization.qdq import QuantizeReport
    from edgedenoise.exporting.verify import VerifyReport


@dataclass(frozen=True)
class BuildReport:
    """What was built."""

    bundle: Bundle
    quantized: QuantizeReport
    verified: VerifyReport


def build(
    checkpoint: Path | str,
    data: Path | str,
    out: Path | str,
    *,
    which: Literal["last", "best"] = "last",
    count: int = DEFAULT_COUNT,
    seed: int = 0,
    scheme: str | None = None,
    targets: tuple[str, ...] | None = None,
    noise_levels: Sequence[float] = (),
    about: str = "",
    progress: Progress = silent,
) -> BuildReport:
    """Make a complete bundle from a trained run: all of it or nothing.

    Args:
        checkpoint: folder made by `edgedenoise train`.
        data: noisy images to calibrate on; clean ones with `noise_levels`.
        out: the bundle folder to write.
        which: the `last` state of the run, or its `best` on images that were held out.
        count: number of calibration crops.
        seed: of the calibration crops.
        scheme: the integer encoding; None for the default of `quantize`.
        targets: what to compile for besides ONNX Runtime; None for everything that is installed here.
        noise_levels: of synthetic camera noise; see `CalibrationSet.from_folder`.
        about: Markdown for the model card: data and their licence, measured quality.
        progress: told stage by stage.

    Raises:
        ParityError: a variant fails its self-test; nothing is written.
        EdgeDenoiseError: whatever one of the steps raises.
    """
    from edgedenoise.exporting.onnx.to_onnx import export, trained_scheme  # torch, only now

    final = Path(out)
    check_replaceable(final)
    wanted = buildable_targets() if targets is None else targets
    with atomic_folder(final) as temporary:
        work = temporary / final.name
        export(checkpoint, work, which=which, about=about, progress=progress)
        calibrate(work, data, count=count, seed=seed, noise_levels=noise_levels, progress=progress)
        scheme = scheme or trained_scheme(checkpoint, which)
        quantized = quantize(work, scheme=scheme, data=data, progress=progress)
        for target in wanted:
            compile_target(work, target=target, progress=progress)
        verified = verify(work, progress=progress)
        failed = [check for check in verified.variants if check.status == "failed"]
        if failed:
            raise ParityError(
                "nothing was written, because variants fail their self-test: "
                + "; ".join(f"{check.variant}: {check.reason}" for check in failed)
            )
        for entry in work.iterdir():
            entry.rename(temporary / entry.name)
        work.rmdir()
    bundle = Bundle.open(final)
    return BuildReport(bundle, quantized, replace(verified, bundle=str(final), not_built=not_built(bundle)))


def buildable_targets() -> tuple[str, ...]:
    """Return the names of the backends that this installation can build for."""
    return tuple(backend.name for backend in registry.values() if backend.can_build())
