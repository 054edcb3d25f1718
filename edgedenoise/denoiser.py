"""One denoise API on every device: `load` a bundle, call the `Denoiser` with an image, get the same type back."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

import numpy as np

from edgedenoise.bundles.pretrained import DEFAULT
from edgedenoise.errors import DeviceMemoryError, ImageError, UsageError
from edgedenoise.imaging.image import Image, from_unit, to_unit
from edgedenoise.imaging.pillow import from_pil, to_pil
from edgedenoise.imaging.tiling import auto_tile, plan_tiles, smaller_tile
from edgedenoise.runtimes.base import EffectiveDevice, SessionOptions
from edgedenoise.runtimes.choosing import choose_variant
from edgedenoise.runtimes.machine import free_memory_bytes
from edgedenoise.runtimes.opening import open_model, open_variant
from edgedenoise.runtimes.pipeline import run_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Precision, Variant
    from edgedenoise.runtimes.checked import CheckedSession

    Picture = TypeVar("Picture", NDArray[Any], Image, PILImage)

_log = logging.getLogger(__name__)


def load(
    model: Path | str = DEFAULT,
    *,
    runtime: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    device: str = "auto",
    tile: int | Literal["auto"] = "auto",
    strength: float = 1.0,
    threads: int | None = None,
) -> Denoiser:
    """Open a bundle (folder, archive, or lone model file) for denoising.

    Args:
        model: path of a bundle, or of a model file that edgedenoise wrote, or the name of a shipped bundle.
        runtime: `auto`, or a target of `edgedenoise doctor`; `auto` prefers what is fastest among what is here.
        precision: `auto`, `fp32`, `fp16`, `w8a16` or `int8`; `auto` takes INT8 where it is close enough to float to not
            be seen and known to be faster, by the runtime and the CPU's features: nothing is timed.
        device: `auto`, or a device of the runtime; an explicit device never falls back silently.
        tile: largest tile side in pixels, 0 for the whole image, `auto` to choose from the free memory.
        strength: 0 gives the input back, 1 the network's answer, between them a blend.
        threads: threads within one inference; None leaves it to the runtime.

    Raises:
        BundleError: the bundle is damaged, or has nothing that fits what was asked.
        RuntimeUnavailableError: the runtime is missing; the hint is the command that installs it.
        DeviceError: the device is missing.
        ParityError: the variant fails its self-test on this device.
        UsageError: an option has a value that is not accepted.
    """
    options = SessionOptions(threads=threads)
    settings = _Settings(_checked_tile(tile), _checked_strength(strength))
    bundle = open_model(Path(model))
    variant = choose_variant(bundle, runtime, precision, device)
    session = open_variant(bundle, variant, device=device, options=options)
    return Denoiser(bundle, variant, session, settings)


def load_variant(
    bundle: Bundle, name: str, *, device: str = "auto", threads: int | None = None, selftest: bool = True
) -> Denoiser:
    """Open one variant by its name, for those who measure; otherwise as `load`."""
    variant = bundle.variant(name)
    options = SessionOptions(threads=threads)
    session = open_variant(bundle, variant, device=device, options=options, selftest=selftest)
    return Denoiser(bundle, variant, session, _Settings("auto", 1.0))


@dataclass(frozen=True)
class _Settings:
    tile: int | Literal["auto"]
    strength: float


class Denoiser:
    """A variant that is open for denoising. Made by `load`; usable as a context manager."""

    def __init__(self, bundle: Bundle, variant: Variant, session: CheckedSession, settings: _Settings) -> None:
        self.bundle = bundle
        self.variant = variant
        self.last_tile: int | None = None
        """Tile side of the latest image, in pixels; 0 for the whole."""
        self._session = session
        self._settings = settings

    @property
    def effective(self) -> EffectiveDevice:
        """What really runs, as the backend reports it."""
        return self._session.effective

    @overload
    def __call__(self, image: NDArray[Any], *, on_tile: Callable[[int, int], None] | None = None) -> NDArray[Any]: ...
    @overload
    def __call__(self, image: Image, *, on_tile: Callable[[int, int], None] | None = None) -> Image: ...
    @overload
    def __call__(self, image: PILImage, *, on_tile: Callable[[int, int], None] | None = None) -> PILImage: ...
    def __call__(self, image: Any, *, on_tile: Callable[[int, int], None] | None = None) -> Any:
        """Denoise one image and return the same type.

        Args:
            image: an array (H, W), (H, W, 1) or (H, W, 3) of uint8, uint16 or float in [0, 1]; an `Image`; or a
                PIL image. Grayscale is replicated to three channels and the three answers averaged.
            on_tile: called with (done, total) after each tile.

        Returns:
            The same type, shape and depth; integers are rounded half up, floats clipped to [0, 1]. Alpha and metadata
            pass through untouched.

        Raises:
            ImageError: the image is of no accepted type.
            DeviceMemoryError: it does not fit into memory even with the smallest tile.
        """
        if isinstance(image, Image):
            return image.with_unit(self._denoise_unit(image.unit(), on_tile))
        if isinstance(image, np.ndarray):
            unit = self._denoise_unit(to_unit(image), on_tile)
            channels = 3 if image.ndim == 3 and image.shape[2] == 3 else 1
            return from_unit(unit, image.dtype, channels).reshape(image.shape)
        if type(image).__module__.startswith("PIL."):
            return to_pil(self(from_pil(image), on_tile=on_tile), like=image)
        raise ImageError(
            f"cannot denoise a {type(image).__name__}; accepted are numpy arrays, PIL images and edgedenoise Images",
            hint="for files use edgedenoise.denoise_files",
        )

    def close(self) -> None:
        """Give the session's memory back; closing twice is allowed."""
        self._session.close()

    def __enter__(self) -> Denoiser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _denoise_unit(
        self, unit: NDArray[np.float32], on_tile: Callable[[int, int], None] | None
    ) -> NDArray[np.float32]:
        """Denoise (H, W, 3) in [0, 1] and return the blend, not clipped."""
        pixels = np.ascontiguousarray(unit.transpose(2, 0, 1))
        answer = self._run_with_back_off(pixels, on_tile).transpose(1, 2, 0)
        strength = np.float32(self._settings.strength)
        return answer if strength == 1 else unit + strength * (answer - unit)

    def _run_with_back_off(
        self, pixels: NDArray[np.float32], on_tile: Callable[[int, int], None] | None
    ) -> NDArray[np.float32]:
        manifest = self.bundle.manifest
        height, width = pixels.shape[1:]
        automatic = self._settings.tile == "auto"
        tile = (
            auto_tile(height, width, manifest.tiling, free_memory_bytes())
            if self._settings.tile == "auto"
            else self._settings.tile
        )
        while True:
            try:
                answer = run_image(
                    self._session, pixels, manifest.normalization, manifest.tiling, tile=tile, on_tile=on_tile
                )
            except DeviceMemoryError:
                if not automatic:  # the user's own choice is not second-guessed
                    raise
                tile = smaller_tile(plan_tiles(height, width, manifest.tiling, tile))
            else:
                self.last_tile = tile
                _log.info("denoised %dx%d with tiles of %s pixels", height, width, tile or "all")
                return answer


def denoise(image: Picture, model: Path | str = DEFAULT, **options: Any) -> Picture:
    """Denoise one image with a bundle that is opened for it alone; `options` are those of `load`.

    For more than one image, `load` once and call the `Denoiser`.
    """
    with load(model, **options) as denoiser:
        return denoiser(image)


def _checked_tile(tile: int | str) -> int | Literal["auto"]:
    if tile == "auto":
        return "auto"
    if isinstance(tile, int) and not isinstance(tile, bool) and tile >= 0:
        return tile
    raise UsageError(f"tile is {tile!r}; accepted are 'auto', 0 (the whole image) and a number of pixels")


def _checked_strength(strength: float) -> float:
    if not 0 <= strength <= 1:
        raise UsageError(f"strength is {strength!r}; accepted is 0 (the input) to 1 (the network's answer)")
    return strength
