"""One denoise API on every device: `load` a bundle, call the `Denoiser` with an image, get the same type back."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar, overload

import numpy as np

from edgedenoise.bundles.pretrained import DEFAULT, named
from edgedenoise.errors import ImageError, UsageError
from edgedenoise.imaging.image import Frames, Image, check_pixels
from edgedenoise.imaging.pillow import from_pil, to_pil
from edgedenoise.imaging.pixel_rows import regrouped
from edgedenoise.imaging.similarity import SimilarityFilter
from edgedenoise.imaging.stream import FrameStream, Policy
from edgedenoise.runtimes.base import EffectiveDevice, SessionOptions
from edgedenoise.runtimes.checked import OWN_PROCESS
from edgedenoise.runtimes.choosing import Choice, choose
from edgedenoise.runtimes.opened import OpenedVariants, float_reason
from edgedenoise.runtimes.opening import open_model, open_variant
from edgedenoise.runtimes.stored_image import ImageRun, StoredImage
from edgedenoise.runtimes.temporal import Temporal
from edgedenoise.runtimes.tile_budget import tile_within
from edgedenoise.runtimes.tile_choice import next_tile
from edgedenoise.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType

    from numpy.typing import NDArray
    from PIL.Image import Image as PILImage
    from typing_extensions import Unpack

    from edgedenoise.bundles.bundle import Bundle
    from edgedenoise.bundles.manifest import Precision, Variant
    from edgedenoise.imaging.row_files import ImageRows
    from edgedenoise.runtimes.checked import CheckedSession
    from edgedenoise.runtimes.noise_plane import ImageNoise
    from edgedenoise.runtimes.temporal import WholeFrame
    from edgedenoise.settings import LoadOptions

    ImageT = TypeVar("ImageT", NDArray[Any], Image, PILImage)

_log = logging.getLogger(__name__)


def load(
    model: Path | str = DEFAULT,
    *,
    runtime: str = "auto",
    precision: Precision | Literal["auto"] = "auto",
    device: str = "auto",
    tile: int | Literal["auto"] = "auto",
    strength: float = 1.0,
    noise: float | None = None,
    threads: int | None = None,
    max_memory: int | None = None,
    trust_engine: bool = False,
) -> Denoiser:
    """Open a bundle (folder, archive, or lone model file) for denoising.

    Args:
        model: path of a bundle, or of a model file that edgedenoise wrote, or the name of a shipped bundle.
        runtime: `auto`, or the name of a backend that `edgedenoise doctor` lists; `auto` prefers the fastest one here.
        precision: `auto`, `fp32`, `fp16`, `w8a16` or `int8`; `auto` takes INT8 where the difference from float cannot
            be seen and INT8 is known to be faster, from the backend and the CPU's features: nothing is timed. Images
            of more than 8 bits, and those with so little noise that INT8 was measured to lose too much, then run in
            float all the same, where the bundle has a float variant that fits.
        device: `auto`, or a device of the backend, in upper or lower case; a named device never falls back silently.
        tile: largest tile side in pixels; 0 for the whole image; `auto` for one that fits into the free memory and the
            sizes that the model file was built for.
        strength: how much noise to remove. 0 returns the input, 1 is the default. Networks that take the noise level
            remove noise of the estimated level times the strength, up to 2; others blend input and output, up to 1.
        noise: standard deviation of the noise in 8-bit levels, for a network that takes the noise level; None to
            estimate it for each image.
        threads: threads within one inference; None for the backend's own choice.
        max_memory: bytes of memory that the whole process may take, from which `tile="auto"` chooses; None for what
            the machine has free.
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
    settings = Settings(tile, strength, noise, max_memory)
    bundle = open_model(named(model))
    settings.check_for(bundle)
    choice = choose(bundle, runtime, precision, device, trust_engine=trust_engine)
    variant = choice.variant
    session = open_variant(bundle, variant, device=device, options=options)

    def open_float() -> tuple[Variant, CheckedSession]:
        chosen = choose(bundle, runtime, "fp32", device, trust_engine=trust_engine).variant
        return chosen, open_variant(bundle, chosen, device=device, options=options)

    by_image = precision == "auto" and variant.precision == "int8"
    return Denoiser(bundle, choice, OpenedVariants(variant, session, open_float if by_image else None), settings)


def load_variant(
    bundle: Bundle,
    name: str,
    *,
    device: str = "auto",
    threads: int | None = None,
    trust_engine: bool = False,
    selftest: bool = True,
) -> Denoiser:
    """Open one variant by its name, for measurements; otherwise as `load`."""
    variant = bundle.variant(name)
    settings = Settings()
    settings.check_for(bundle)
    options = SessionOptions(threads=threads, trust_engine=trust_engine)
    session = open_variant(bundle, variant, device=device, options=options, selftest=selftest)
    return Denoiser(bundle, Choice(variant), OpenedVariants(variant, session), settings)


class Denoiser:
    """A variant that is open for denoising. Made by `load`; usable as a context manager.

    Thread safety: one `Denoiser` may be called from several threads, on every backend. ONNX Runtime runs the calls at
    the same time; on the other backends a call waits until the one before it is finished. Images come out as if they
    had been denoised one after another. `close` waits for the calls of other threads. A `Denoiser` belongs to the
    process that opened it, and can be neither pickled nor used after a fork: open one in each process.

    Example:
        >>> import edgedenoise, numpy
        >>> with edgedenoise.load("edge-tiny", strength=0.5) as denoiser:
        ...     denoiser(numpy.zeros((64, 48), numpy.float32)).shape
        (64, 48)
    """

    def __init__(self, bundle: Bundle, choice: Choice, opened: OpenedVariants, settings: Settings) -> None:
        self.bundle = bundle
        """The opened bundle."""
        self.choice = choice
        """The variant that was chosen, and those that were passed over, with the reasons."""
        self.variant = choice.variant
        """The variant that runs; some images may run on a float variant instead, see `last_variant`."""
        self.last_variant = choice.variant
        """The variant that ran the last image."""
        self.last_float_reason: str | None = None
        """Which images run in float although INT8 was chosen, where the last one was one of them; None otherwise."""
        self.last_noise: float | None = None
        """Noise of the last image in 8-bit levels (RMS), estimated or stated; None for networks that do not take it."""
        self.last_tile: int | None = None
        """Tile side of the image that was finished last, in pixels; 0 for the whole image."""
        self.session = opened.session
        """The opened session, for measurements of the network alone."""
        self._opened = opened
        self._settings = settings

    @property
    def effective(self) -> EffectiveDevice:
        """What really runs, as the backend reports it."""
        return self.session.effective

    @property
    def max_memory(self) -> int | None:
        """Bytes of memory that the process may take; None for what the machine has free."""
        return self._settings.max_memory

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
                the three outputs are averaged. An image with less than one 8-bit level of estimated noise is returned
                unchanged by networks that take the noise level.
            on_tile: called with (done, total) after each tile.

        Returns:
            The same type, shape and depth; integers are rounded half up, floats clipped to [0, 1]. Alpha, the colours
            of fully transparent pixels and metadata pass through untouched.

        Raises:
            ImageError: the image is of no accepted type.
            DeviceMemoryError: it does not fit into memory even with the smallest tile.
        """
        return self._denoise(image, lambda stored, bits: self._denoised(stored, on_tile, bits=bits))

    def for_video(self, *, smooth: bool = True, reuse: bool = False) -> Callable[[ImageT], ImageT]:
        """Return a function that denoises the frames of one video; call it with them in order, from one thread.

        Args:
            smooth: average over time what the network is given besides the pixels: the statistics of `whole-image`
                networks, and the estimated noise level. Otherwise noise in them is seen as flicker.
            reuse: show the previous output where the image has not moved. It saves time and removes more noise where
                the camera stands still, and costs some time where it does not.

        Returns:
            A function from an image to an image, as the `Denoiser` itself.

        Example:
            >>> import edgedenoise, numpy
            >>> frames = [numpy.full((64, 64, 3), brightness, numpy.uint8) for brightness in (60, 61, 62)]
            >>> with edgedenoise.load("edge-tiny") as denoiser:
            ...     denoise = denoiser.for_video(reuse=True)
            ...     clean = [denoise(frame) for frame in frames]
            >>> len(clean), clean[0].shape
            (3, (64, 64, 3))
        """
        temporal = Temporal(self.bundle.manifest.tiling, smooth=smooth, reuse=reuse)
        return lambda image: self._denoise(image, lambda stored, bits: self._next_frame(stored, temporal, bits=bits))

    def stream(
        self,
        frames: Iterable[ImageT],
        *,
        policy: Policy = "latest",
        max_queue: int = 1,
        similarity: float | None = None,
        smooth: bool = True,
        reuse: bool = False,
    ) -> FrameStream[ImageT]:
        """Denoise the frames of a camera or another live source, which a thread reads.

        Args:
            frames: arrays, `Image`s or PIL images.
            policy: `latest` keeps the newest frames that wait and drops the others, so that results are never old.
                `block` makes the source wait, so that no frame is lost.
            max_queue: number of frames that may wait, at least 1.
            similarity: similarity, 0 to 1, from which a frame may be answered with the result before: 0.98 suits most
                cameras. None to denoise every frame. See `edgedenoise.imaging.similarity`.
            smooth: as for `for_video`.
            reuse: as for `for_video`.

        Returns:
            An iterator of results, each with its image, number and delay. Its `report` has the counts of frames and
            the percentiles of the delays. Use it as a context manager, which stops the source.

        Raises:
            UsageError: an option has a value that is not accepted.

        Example:
            >>> import edgedenoise, numpy
            >>> frames = (numpy.full((64, 64, 3), brightness, numpy.uint8) for brightness in range(60, 70))
            >>> with edgedenoise.load("edge-tiny") as denoiser, denoiser.stream(frames, policy="block") as stream:
            ...     numbers = [result.index for result in stream]
            >>> numbers == list(range(10)), stream.report.dropped
            (True, 0)
        """
        is_similar = None if similarity is None else SimilarityFilter(similarity)
        return FrameStream(
            frames,
            self.for_video(smooth=smooth, reuse=reuse),
            policy=policy,
            max_queue=max_queue,
            is_skippable=None if is_similar is None else lambda frame: is_similar(_array_of(frame)),
        )

    def _denoise(self, image: Any, run: Callable[[StoredImage, int], NDArray[Any]]) -> Any:
        """Return an image of any type with what `run` gives for its pixels and the bits of their type."""
        if isinstance(image, Image):
            pixels = run(StoredImage.of(image.pixels, image.alpha), image.bits)
            clean = replace(image, pixels=pixels, following=Frames())
            return clean.followed_by(self._denoise(frame, run) for frame in image.following)
        if isinstance(image, np.ndarray):
            check_pixels(image)
            bits = 16 if image.dtype.str[1:] == "u2" else 8
            return run(StoredImage.of(image), bits).reshape(image.shape)
        if type(image).__module__.startswith("PIL."):
            return to_pil(self._denoise(from_pil(image), run), like=image)
        raise ImageError(
            f"cannot denoise a {type(image).__name__}; expected a NumPy array, a PIL image or an edgedenoise Image",
            hint="For files use edgedenoise.denoise_files",
        )

    def by_rows(self, image: ImageRows, *, on_tile: Callable[[int, int], None] | None = None) -> ImageRows:
        """Return a large image whose rows are denoised while they are read; otherwise as a call.

        A pass over the rows runs the network once, in little memory, whatever the size of the image.

        Args:
            image: as `edgedenoise.imaging.files.open_rows` returns it.
            on_tile: called with (done, total) after each tile.

        Returns:
            The image, to be written with `edgedenoise.imaging.files.write_rows`.
        """

        def start(rows: int) -> Iterator[NDArray[Any]]:
            return regrouped(self._bands(StoredImage(image.pixels), on_tile, bits=image.layout.bits), rows)

        return replace(image, pixels=replace(image.pixels, start=start, in_memory=False))

    def close(self) -> None:
        """Release the sessions' memory; closing twice is allowed."""
        self._opened.close()

    def __reduce__(self) -> NoReturn:
        raise UsageError("a Denoiser cannot be pickled or copied: it belongs to its process", hint=OWN_PROCESS)

    def __enter__(self) -> Denoiser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _next_frame(self, image: StoredImage, temporal: Temporal, *, bits: int) -> NDArray[Any]:
        """Return the next frame of a video denoised, (H, W, C)."""
        manifest = self.bundle.manifest
        noise = None if manifest.noise_level is None else self._noise_of(image)
        whole = temporal.frame(image, manifest.input_normalization, noise)
        if temporal.reuse is None or image.visible is not None:  # the colours of hidden pixels depend on the whole
            return self._denoised(image, None, bits=bits, whole=whole)
        return temporal.reused(image, whole, lambda part, known: self._denoised(part, None, bits=bits, whole=known))

    def _denoised(
        self,
        image: StoredImage,
        on_tile: Callable[[int, int], None] | None,
        *,
        bits: int,
        whole: WholeFrame | None = None,
    ) -> NDArray[Any]:
        """Return an image in memory denoised, (H, W, C)."""
        pixels = image.pixels
        result = np.empty((pixels.height, pixels.width, pixels.channels), pixels.dtype)
        top = 0
        for band in self._bands(image, on_tile, bits=bits, held_bytes=result.nbytes, whole=whole):
            result[top : top + len(band)] = band
            top += len(band)
        return result

    def _bands(
        self,
        image: StoredImage,
        on_tile: Callable[[int, int], None] | None,
        *,
        bits: int,
        held_bytes: int = 0,
        whole: WholeFrame | None = None,
    ) -> Iterator[NDArray[Any]]:
        """Yield an image of a depth denoised, as it is stored, in bands of rows.

        Args:
            image: the image, or a part of a frame.
            on_tile: called after each tile.
            bits: bits per sample.
            held_bytes: memory that the output will take.
            whole: what is known of the frame; None to find it in the image.
        """
        manifest, strength = self.bundle.manifest, self._settings.strength
        noise = None
        if manifest.noise_level is not None and strength:
            noise = self._noise_of(image) if whole is None else whole.noise
        unchanged = strength == 0
        if noise is not None:
            unchanged = noise.is_negligible if whole is None else whole.is_negligible
        self.last_variant, session, self.last_float_reason = self.variant, self.session, None
        if not unchanged:
            noise_lsb = None if noise is None else noise.rms_lsb * strength
            self.last_variant, session = self._opened.for_image(bits, noise_lsb)
            if self.last_variant is not self.variant:
                self.last_float_reason = float_reason(self.variant, bits, noise_lsb)
        run = ImageRun(image, session, manifest.tiling, strength=strength, on_tile=on_tile, noise=noise)
        if unchanged:
            yield from run.unchanged()
            return
        stats = image.statistics(manifest.input_normalization) if whole is None else whole.stats
        run = replace(run, stats=stats)
        tile = self._settings.tile
        if tile == "auto":
            limit = self._settings.max_memory
            tile = tile_within(image.pixels, manifest.tiling, session.shapes, limit, held_bytes=held_bytes)

        def smaller(height: int, too_large: int) -> int:
            nonlocal tile
            tile = next_tile(height, image.pixels.width, manifest.tiling, session.shapes, too_large)
            return tile

        yield from run.bands(tile, smaller if self._settings.tile == "auto" else None)  # a chosen tile stands
        self.last_tile = tile
        _log.info("denoised %dx%d with tiles of %s pixels", image.pixels.width, image.pixels.height, tile or "all")

    def _noise_of(self, image: StoredImage) -> ImageNoise:
        """Return the noise of an image, as the user stated it or estimated."""
        noise = image.noise(self._settings.noise)
        self.last_noise = round(noise.rms_lsb, 2)
        unchanged = "; the image is returned unchanged" if noise.is_negligible else ""
        _log.info("noise: %.1f 8-bit levels%s", noise.rms_lsb, unchanged)
        return noise


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


def _array_of(image: Any) -> NDArray[Any]:
    """Return the pixels of an array, an `Image` or a PIL image."""
    return np.asarray(image.pixels if isinstance(image, Image) else image)
