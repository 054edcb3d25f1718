"""One denoise API on every device: `load` a bundle, call the `Denoiser` with an image, get the same type back."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, overload

import numpy as np

from edgedenoise.bundles.manifest import MAX_SIDE_PX
from edgedenoise.bundles.pretrained import DEFAULT, resolve
from edgedenoise.errors import DeviceMemoryError, ImageError, UsageError
from edgedenoise.imaging.image import Image, from_unit_like, to_unit
from edgedenoise.imaging.pillow import from_pil, to_pil
from edgedenoise.runtimes.base import EffectiveDevice, SessionOptions
from edgedenoise.runtimes.choosing import choose_variant
from edgedenoise.runtimes.machine import free_memory_bytes
from edgedenoise.runtimes.opening import open_model, open_variant
from edgedenoise.runtimes.pipeline import run_image
from edgedenoise.runtimes.tile_choice import first_tile, next_tile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage
    from typing_extensions import Unpack

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Precision, Variant
    from edgedenoise.runtimes.checked import CheckedSession

    ImageT = TypeVar("ImageT", NDArray[Any], Image, PILImage)

_log = logging.getLogger(__name__)


class LoadOptions(TypedDict, total=False):
    """Options of `load`, for functions that pass them on."""

    runtime: str
    precision: Precision | Literal["auto"]
    device: str
    tile: int | Literal["auto"]
    strength: float
    threads: int | None
    trust_engine: bool


def load(
    model: Path | str = DEFAULT,
    *,
    runtime: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    device: str = "auto",
    tile: int | Literal["auto"] = "auto",
    strength: float = 1.0,
    threads: int | None = None,
    trust_engine: bool = False,
) -> Denoiser:
    """Open a bundle (folder, archive, or lone model file) for denoising.

    Args:
        model: path of a bundle, or of a model file that edgedenoise wrote, or the name of a shipped bundle.
        runtime: `auto`, or the name of a backend that `edgedenoise doctor` lists; `auto` prefers the fastest one here.
        precision: `auto`, `fp32`, `fp16`, `w8a16` or `int8`; `auto` takes INT8 where the difference from float cannot
            be seen and INT8 is known to be faster, from the backend and the CPU's features: nothing is timed.
        device: `auto`, or a device of the backend, in upper or lower case; a named device never falls back silently.
        tile: largest tile side in pixels; 0 for the whole image; `auto` for one that fits into the free memory and the
            sizes that the model file was built for.
        strength: 0 returns the input, 1 the network's output, values between them a blend.
        threads: threads within one inference; None for the backend's own choice.
        trust_engine: load a TensorRT engine that contains code for the host although another machine built it; do so
            only if you trust whoever built it.

    Returns:
        A `Denoiser`, to be called with images and closed at the end; use it as a context manager.

    Raises:
        BundleError: the bundle is damaged, or has no variant that fits.
        RuntimeUnavailableError: the backend is missing; the hint is the command that installs it.
        DeviceError: the device is missing.
        ParityError: the variant fails its self-test on this device.
        UsageError: an option has a value that is not accepted.

    Example:
        >>> import edgedenoise, numpy
        >>> with edgedenoise.load("edge-tiny") as denoiser:
        ...     clean = denoiser(numpy.zeros((64, 64, 3), numpy.uint8))
        >>> clean.shape, clean.dtype
        ((64, 64, 3), dtype('uint8'))
    """
    options = SessionOptions(threads=threads, trust_engine=trust_engine)
    settings = _Settings(_checked_tile(tile), _checked_strength(strength))
    bundle = open_model(resolve(model))
    variant = choose_variant(bundle, runtime, precision, device, trust_engine=trust_engine)
    session = open_variant(bundle, variant, device=device, options=options)
    return Denoiser(bundle, variant, session, settings)


def load_variant(
    bundle: Bundle, name: str, *, device: str = "auto", threads: int | None = None, selftest: bool = True
) -> Denoiser:
    """Open one variant by its name, for measurements; otherwise as `load`."""
    variant = bundle.variant(name)
    options = SessionOptions(threads=threads)
    session = open_variant(bundle, variant, device=device, options=options, selftest=selftest)
    return Denoiser(bundle, variant, session, _Settings("auto", 1.0))


@dataclass(frozen=True)
class _Settings:
    tile: int | Literal["auto"]
    strength: float


class Denoiser:
    """A variant that is open for denoising. Made by `load`; usable as a context manager.

    Thread safety: one `Denoiser` may be called from several threads, on every backend. ONNX Runtime runs the calls at
    the same time; on the other backends a call waits until the one before it is finished. Images come out as if they
    had been denoised one after another. For more throughput, open one `Denoiser` per process.

    Example:
        >>> import edgedenoise, numpy
        >>> with edgedenoise.load("edge-tiny", strength=0.5) as denoiser:
        ...     denoiser(numpy.zeros((64, 48), numpy.float32)).shape
        (64, 48)
    """

    def __init__(self, bundle: Bundle, variant: Variant, session: CheckedSession, settings: _Settings) -> None:
        self.bundle = bundle
        """The opened bundle."""
        self.variant = variant
        """The variant that runs."""
        self.last_tile: int | None = None
        """Tile side of the image that was finished last, in pixels; 0 for the whole image."""
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
            image: an array (H, W), (H, W, 1) or (H, W, 3) of uint8, uint16 (either byte order) or float in [0, 1]; an
                `Image`; or a PIL image. Floats from -2 to 3 are accepted, because noise reaches beyond [0, 1]. An
                image whose three channels are equal is treated as grayscale: it is replicated to three channels, and
                the three outputs are averaged.
            on_tile: called with (done, total) after each tile.

        Returns:
            The same type, shape and depth; integers are rounded half up, floats clipped to [0, 1]. Alpha, the colours
            of fully transparent pixels and metadata pass through untouched.

        Raises:
            ImageError: the image is of no accepted type.
            DeviceMemoryError: it does not fit into memory even with the smallest tile.
        """
        if isinstance(image, Image):
            clean = image.with_unit(self._denoise_unit(image.unit(), on_tile))
            return clean.followed_by(self(frame, on_tile=on_tile) for frame in image.following)
        if isinstance(image, np.ndarray):
            unit = self._denoise_unit(to_unit(image), on_tile)
            return from_unit_like(unit, image)
        if type(image).__module__.startswith("PIL."):
            return to_pil(self(from_pil(image), on_tile=on_tile), like=image)
        raise ImageError(
            f"cannot denoise a {type(image).__name__}; expected a NumPy array, a PIL image or an edgedenoise Image",
            hint="For files use edgedenoise.denoise_files",
        )

    def close(self) -> None:
        """Release the session's memory; closing twice is allowed."""
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
        manifest, shapes = self.bundle.manifest, self._session.shapes
        height, width = pixels.shape[1:]
        automatic = self._settings.tile == "auto"
        tile = (
            first_tile(height, width, manifest.tiling, shapes, free_memory_bytes())
            if self._settings.tile == "auto"
            else self._settings.tile
        )
        while True:
            try:
                answer = run_image(
                    self._session, pixels, manifest.input_normalization, manifest.tiling, tile=tile, on_tile=on_tile
                )
            except DeviceMemoryError:
                if not automatic:  # the user's own choice stands
                    raise
                tile = next_tile(height, width, manifest.tiling, shapes, tile)
            else:
                self.last_tile = tile
                _log.info("denoised %dx%d with tiles of %s pixels", height, width, tile or "all")
                return answer


def denoise(image: ImageT, model: Path | str = DEFAULT, **options: Unpack[LoadOptions]) -> ImageT:
    """Denoise one image with a bundle that is opened for this image alone.

    For more than one image, call `load` once and use the `Denoiser`.

    Args:
        image: array, `Image` or PIL image; see `Denoiser`.
        model: path of a bundle or model file, or the name of a shipped bundle.
        **options: those of `load`.

    Returns:
        The denoised image, of the type, shape and depth of the input.

    Raises:
        ImageError: the image is of no accepted type.
        EdgeDenoiseError: whatever `load` raises.

    Example:
        >>> import edgedenoise, numpy
        >>> noisy = numpy.full((64, 64, 3), 128, numpy.uint8)
        >>> edgedenoise.denoise(noisy, "edge-tiny").shape
        (64, 64, 3)
    """
    with load(model, **options) as denoiser:
        return denoiser(image)


def _checked_tile(tile: int | str) -> int | Literal["auto"]:
    if tile == "auto":
        return "auto"
    if isinstance(tile, int) and not isinstance(tile, bool) and 0 <= tile <= MAX_SIDE_PX:
        return tile
    raise UsageError(
        f"tile is {tile!r}; expected 'auto', 0 (the whole image) or a number of pixels up to {MAX_SIDE_PX}"
    )


def _checked_strength(strength: float) -> float:
    if not 0 <= strength <= 1:
        raise UsageError(
            f"strength is {strength!r}; expected 0 (the input) to 1 (the network's output)",
            hint="Take 1, the default, to remove all noise, or 0.7 to keep some of it.",
        )
    return strength
