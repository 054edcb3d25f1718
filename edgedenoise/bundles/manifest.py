"""The content of a bundle's `manifest.json`, as structs; docs/reference/bundle-format.md describes every field."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from edgedenoise.errors import UsageError
from edgedenoise.imaging.normalize import Normalization, NormalizationKind
from edgedenoise.imaging.tiling import Tiling

SCHEMA = "edgedenoise-bundle/1"
BLENDED_SCHEMA = "edgedenoise-bundle/1-blended"
"""Schema of bundles whose tiles are blended: a reader that would put them side by side must refuse it."""
IMAGE_CHANNELS = 3
"""Channels of the image that a network takes and returns."""

Precision = Literal["fp32", "fp16", "int8", "w8a16"]
"""`int8` has weights and activations in 8 bits; `w8a16` the weights alone, which saves size and no time."""


VARIANT_NAME = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Type of a variant's name, which is also the name of its sub-folder and of files made for it: no separators."""


COUNT = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
"""Type of a number of things; JSON readers of other languages hold it exactly."""
DECIBELS = Annotated[float, msgspec.Meta(ge=-1000, le=1000)]
"""Type of a difference in decibels."""


class NetworkInfo(msgspec.Struct, frozen=True):
    """The network: its name and what it costs."""

    name: str
    """For example `cbsn-24x4`."""
    parameters: COUNT
    macs_per_px: COUNT
    """Multiply-accumulates per input pixel of the exported path."""


class Encoding(msgspec.Struct, frozen=True):
    """How a quantized variant was encoded; see `edgedenoise.calibration.schemes`."""

    scheme: str
    activations: Literal["u8", "s8"]
    weights: Literal["s8"]
    weight_bits: int
    """8, or 7 where products of 8-bit pairs would saturate 16-bit accumulators."""
    calibrator: str = "minmax"
    """How ranges of activations were chosen, except those that the weights were trained with; see
    `edgedenoise.calibration.calibrators`."""
    float_layers: list[str] = []
    """Outputs of the layers that are kept in float, by their names in the float graph."""
    weight_clip: Literal["none", "mse"] = "none"
    """`mse`: the scales of weights are those of least squared error, which may clip the largest weights."""
    bias_correction: Literal["none", "mean"] = "none"
    """`mean`: biases restore the mean of each channel, which rounding had changed."""
    trained_ranges: int | None = None
    """Number of ranges of activations that the weights were trained with and that were used instead of the
    calibrator's; None in bundles of earlier versions, which did not record it."""


MOST_MEAN_LOSS_DB = 0.1
MOST_WORST_LOSS_DB = 0.3
"""Losses beyond which integers are not recommended: in the mean, and on the worst image."""


class HeldOutLoss(msgspec.Struct, frozen=True):
    """PSNR that integers lose against float, on images that calibration did not use."""

    mean_db: DECIBELS
    """Mean over the images."""
    worst_db: DECIBELS
    """Loss on the image that loses most."""
    images: Annotated[int, msgspec.Meta(ge=1, le=1 << 53)]
    """Number of images; one that is larger than the judged side counts once for each of its parts."""
    truth: Literal["clean", "replayed"]
    """What the PSNR is taken to. `clean`: the clean images. `replayed`: the float output, to which the noise that it
    lacks was added again at another place, because there are no clean images."""
    least_noise_lsb: Annotated[float, msgspec.Meta(ge=0, le=255)] = 0.0
    """Least noise of an image in 8-bit levels (RMS, as estimated) for which integers are recommended. Images with less
    run in float and are not counted here. 0 where all are counted, and for networks that do not take the noise level.
    """

    @property
    def recommended(self) -> bool:
        """Whether the loss is small enough to prefer integers to float."""
        return self.mean_db <= MOST_MEAN_LOSS_DB and self.worst_db <= MOST_WORST_LOSS_DB

    def __str__(self) -> str:
        which = f"{self.images} images"
        if self.least_noise_lsb:
            which += f" with a noise of {self.least_noise_lsb:g} LSB or more; those with less run in float"
        return f"{self.mean_db:.2f} dB lost in the mean and {self.worst_db:.2f} dB on the worst of {which}"


MAX_SIDE_PX = 1 << 16
"""Largest accepted side of an input."""
MAX_SIDES = 128
"""Most accepted sides of enumerated shapes."""


class InputShapes(msgspec.Struct, frozen=True):
    """The square inputs that a file accepts; the sides include the margins of tiles."""

    kind: Literal["fixed", "enumerated", "ranged"]
    sides_px: list[int]
    """fixed: one side; enumerated: all sides, ascending; ranged: smallest, best and largest side."""

    def __post_init__(self) -> None:
        count = {"fixed": 1, "ranged": 3}.get(self.kind)
        sides = self.sides_px
        if not sides or (count is not None and len(sides) != count) or sides != sorted(sides):
            raise ValueError(f"shapes of the kind {self.kind!r} have the sides {sides}")
        if not 1 <= sides[0] <= sides[-1] <= MAX_SIDE_PX or len(sides) > MAX_SIDES:
            raise ValueError(f"shapes have {len(sides)} sides from {sides[0]} to {sides[-1]} px")


class Variant(msgspec.Struct, frozen=True):
    """One form of the network, for one runtime and precision."""

    name: VARIANT_NAME
    runtime: str
    precision: Precision
    path: str
    """The file that the runtime opens, relative to the bundle, with `/`."""
    encoding: Encoding | None = None
    """None for float variants."""
    fidelity_db: Annotated[float, msgspec.Meta(ge=0, le=1000)] | None = None
    """PSNR of the reference execution (unfused W8A8) to the float output on the self-test; None for float variants."""
    shapes: InputShapes | None = None
    """None when any height and width is accepted."""
    loss: HeldOutLoss | None = None
    """Measured loss of the reference execution; None for float variants and where it was not measured."""

    @property
    def not_recommended(self) -> str:
        """Why float is to be preferred, with the numbers; empty where nothing speaks against the variant."""
        return "" if self.loss is None or self.loss.recommended else f"not recommended: {self.loss}"

    @property
    def least_noise_lsb(self) -> float:
        """Least noise of the images that it is recommended for, in 8-bit levels; 0 for all images."""
        return 0.0 if self.loss is None else self.loss.least_noise_lsb


class FileRecord(msgspec.Struct, frozen=True):
    """Hash and size of a file when it was written."""

    sha256: str
    size_bytes: COUNT


class Parity(msgspec.Struct, frozen=True):
    """How far the exported graph is from the PyTorch network, on random images."""

    sizes: list[tuple[int, int]]
    """(height, width) of each image."""
    max_relative_error: float
    """Largest |difference| over largest |answer|, over all sizes."""
    max_error_lsb: float | None = None
    """Largest |difference| in 8-bit levels of the answer; None in older bundles."""


class Calibration(msgspec.Struct, frozen=True, rename={"images": "photographs"}):
    """The set that activation ranges were measured on; the ranges are in `calibration/ranges.json`."""

    crops: COUNT
    images: COUNT
    seed: int
    noise_levels: list[float] = []
    """Levels of the synthetic camera noise that was added to clean images; empty for noisy images."""


class Training(msgspec.Struct, frozen=True):
    """How the weights were trained."""

    objective: str
    """For example `cbsn`, on noisy images alone; see `edgedenoise.training.objectives.objective`."""
    steps: COUNT
    hours: Annotated[float, msgspec.Meta(ge=0)]
    """Wall time, on the machine that trained it."""
    clean: bool = False
    """Whether training used clean images."""


class NoiseLevel(msgspec.Struct, frozen=True):
    """How the noise level of every pixel is computed, which a network takes as a fourth input channel.

    The channel is min(1, gain * sigma), sigma being the standard deviation of the noise at the pixel, with white as 1.
    See `edgedenoise.runtimes.noise_plane`.
    """

    estimator: str
    """Name of the estimator that sigma comes from."""
    version: Annotated[int, msgspec.Meta(ge=1, le=1000)]
    """Version of the estimator; later ones serve as well."""
    gain: Annotated[float, msgspec.Meta(gt=0, le=1000)]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What `edgedenoise test` demands of a bundle; None where there is no limit."""

    max_drop_db: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    """Largest loss of PSNR against the float variant, in the mean over images with ground truth."""
    min_psnr_db: Annotated[float, msgspec.Meta(ge=0, le=1000)] | None = None
    """Least PSNR to the float output, on each image."""
    max_error_lsb: Annotated[float, msgspec.Meta(ge=0, le=255)] | None = None
    """Largest absolute difference to the float output in 8-bit levels, on each image."""
    max_ms: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """Largest median time of a whole call on an image of 512x512 pixels, in milliseconds."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a host must know. The schema is additive: unknown fields of newer versions are ignored."""

    schema: str = SCHEMA
    name: str
    created_by: str
    network: NetworkInfo
    normalization: NormalizationKind
    normalization_limit: float | None = None
    """Largest absolute value that `whole-image-bounded` gives; None for the other kinds."""
    tiling: Tiling
    variants: list[Variant]
    training: Training | None = None
    parity: Parity | None = None
    calibration: Calibration | None = None
    noise_level: NoiseLevel | None = None
    """How the fourth input channel is computed; None for networks that take the image alone."""
    limits: Limits | None = None
    """Limits that the bundle was made to keep; None where none were given."""
    about: str = ""
    """Markdown for the model card: data and their licence, measured quality."""
    files: dict[str, FileRecord] = {}
    """Path relative to the bundle -> record, for every file but the manifest."""
    digest: str = ""
    """SHA-256 of the manifest's own JSON with this field empty, which reveals an edited manifest."""

    def __post_init__(self) -> None:
        _normalization(self)
        _check_schema(self)

    @property
    def input_normalization(self) -> Normalization:
        """How the pixels of an image become the values that the graphs take."""
        return _normalization(self)

    @property
    def input_channels(self) -> int:
        """Number of input channels of the network: the image, and the noise level where the network takes it."""
        return IMAGE_CHANNELS if self.noise_level is None else IMAGE_CHANNELS + 1


class EmbeddedMetadata(msgspec.Struct, frozen=True, omit_defaults=True):
    """The part of the manifest that is embedded in each model file, so that a lone file still loads."""

    schema: str
    network: NetworkInfo
    normalization: NormalizationKind
    tiling: Tiling
    variant: Variant
    noise_level: NoiseLevel | None = None
    normalization_limit: float | None = None

    def __post_init__(self) -> None:
        _normalization(self)
        _check_schema(self)


def embedded_metadata(manifest: Manifest, variant: Variant) -> bytes:
    """Return what is embedded in a variant's model file, as JSON."""
    return msgspec.json.encode(
        EmbeddedMetadata(
            manifest.schema,
            manifest.network,
            manifest.normalization,
            manifest.tiling,
            variant,
            manifest.noise_level,
            manifest.normalization_limit,
        )
    )


def schema_for(tiling: Tiling) -> str:
    """Return the schema of a bundle with such tiles."""
    return SCHEMA if tiling.is_exact else BLENDED_SCHEMA


def _check_schema(record: Manifest | EmbeddedMetadata) -> None:
    """Raise a ValueError, which msgspec reports by its path, where the schema is not that of the tiles."""
    if record.schema in (SCHEMA, BLENDED_SCHEMA) and record.schema != schema_for(record.tiling):
        raise ValueError(f"the schema {record.schema!r} contradicts the tiles; expected {schema_for(record.tiling)!r}")


def _normalization(record: Manifest | EmbeddedMetadata) -> Normalization:
    """Return a record's normalization; a ValueError, which msgspec reports by its path, where it is inconsistent."""
    try:
        return Normalization(record.normalization, record.normalization_limit)
    except UsageError as error:
        raise ValueError(error.message) from error
