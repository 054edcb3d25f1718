"""The error tree. Nothing is imported here.

Every message says what happened, what was received and what is accepted; `hint` says what to do next.
Each class has an exit code of its own, so that a script can tell a damaged image from a missing runtime.
"""

from __future__ import annotations

from typing import ClassVar


class EdgeDenoiseError(Exception):
    """Base of every error that edgedenoise raises on purpose."""

    exit_code: ClassVar[int] = 1
    """What the command line exits with; unique per class."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        """What happened, what was received, what is accepted."""
        self.hint = hint
        """What to do next, often the exact command."""

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(EdgeDenoiseError):
    """An option or argument is not one that is accepted."""

    exit_code = 2  # the code that command-line parsers use for the same thing


class OutputError(EdgeDenoiseError):
    """The place where a result is to be written cannot be written to."""

    exit_code = 3


class DataError(EdgeDenoiseError):
    """Something is wrong with the images that were given."""

    exit_code = 10


class ImageError(DataError):
    """A file is not an image, or a kind of image that is not supported."""

    exit_code = 11


class DamagedImageError(ImageError):
    """An image file begins well and then is cut short or corrupt."""

    exit_code = 12


class DatasetError(DataError):
    """A folder cannot be trained on or compared with: empty, too small, unmatched."""

    exit_code = 13


class CalibrationError(DataError):
    """A calibration set or its ranges cannot be used."""

    exit_code = 14


class BundleError(EdgeDenoiseError):
    """Something is wrong with a bundle."""

    exit_code = 20


class ManifestError(BundleError):
    """The manifest is missing, unreadable or not of a known schema."""

    exit_code = 21


class IntegrityError(BundleError):
    """A file is not the one that the manifest recorded, or an archive is hostile."""

    exit_code = 22


class IncompatibleError(BundleError):
    """The bundle is sound, but has nothing that fits what was asked."""

    exit_code = 23


class ExportError(EdgeDenoiseError):
    """A network could not be exported, or the exported graph breaks the graph contract."""

    exit_code = 30


class QuantizationError(EdgeDenoiseError):
    """A graph could not be quantized within what was asked."""

    exit_code = 40

    def __init__(self, message: str, *, hint: str | None = None, plan: object = None) -> None:
        super().__init__(message, hint=hint)
        self.plan = plan
        """Best plan of a search that met no budget; None if there was no search.

        See `edgedenoise.exporting.quantization.search_result.Plan`.
        """


class ParityError(EdgeDenoiseError):
    """Two things that must give the same pixels do not."""

    exit_code = 50


class RuntimeUnavailableError(EdgeDenoiseError):
    """A runtime's package is missing or unusable; the hint is the command that fixes it."""

    exit_code = 60


class DeviceError(EdgeDenoiseError):
    """A device cannot do what was asked of it."""

    exit_code = 70


class DeviceNotFoundError(DeviceError):
    """The device that was named is not on this machine."""

    exit_code = 71


class DeviceFallbackError(DeviceError):
    """The runtime would have used another device than the one that was named."""

    exit_code = 72


class DeviceMemoryError(DeviceError):
    """A tile did not fit into memory."""

    exit_code = 73

    def __init__(self, message: str, *, suggested_tile: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.suggested_tile = suggested_tile
        """A smaller tile side in pixels that is worth trying, or None when there is none."""


class InferenceError(EdgeDenoiseError):
    """A session was given, or gave, something that it must not."""

    exit_code = 80


class NotFiniteError(InferenceError):
    """A session gave NaN or infinity."""

    exit_code = 81


class TrainingError(EdgeDenoiseError):
    """A training run cannot start, resume or go on."""

    exit_code = 90


class MeasurementError(EdgeDenoiseError):
    """A command that measures variants could not measure any of them."""

    exit_code = 100
