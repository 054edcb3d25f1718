"""The error tree. This module imports nothing of the project.

A message states what happened, then `expected ..., got ...`. The hint states what to do next. Each class has its own
exit code, so that a script can distinguish a damaged image from a missing runtime.
"""

from __future__ import annotations

import signal
from typing import ClassVar


class EdgeDenoiseError(Exception):
    """Base class of all errors that edgedenoise raises on purpose.

    Example:
        >>> import edgedenoise
        >>> try:
        ...     edgedenoise.load("nowhere.edge")
        ... except edgedenoise.EdgeDenoiseError as error:
        ...     print(type(error).__name__, error.exit_code)
        BundleError 20
    """

    exit_code: ClassVar[int] = 1
    """Exit code of the command line; unique per class."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        """What happened, what was expected, and what was received."""
        self.hint = hint
        """What to do next, often the exact command; None where there is no advice."""

    @property
    def one_line(self) -> str:
        """The message, and the hint in parentheses, on one line; for rows of tables."""
        text = self.message if self.hint is None else f"{self.message} ({self.hint})"
        return " ".join(text.split())

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class UsageError(EdgeDenoiseError):
    """An option or argument is not accepted."""

    exit_code = 2  # the code that command-line parsers use for the same thing


class OutputError(EdgeDenoiseError):
    """An output cannot be written."""

    exit_code = 3


class DataError(EdgeDenoiseError):
    """Something is wrong with the given images."""

    exit_code = 10


class ImageError(DataError):
    """A file is not an image, or is an image of an unsupported kind."""

    exit_code = 11


class DamagedImageError(ImageError):
    """An image file is cut short or corrupt."""

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
    """The manifest is missing, unreadable, or of an unknown schema."""

    exit_code = 21


class IntegrityError(BundleError):
    """A file differs from the one that the manifest records, or an archive is hostile."""

    exit_code = 22


class IncompatibleError(BundleError):
    """The bundle is valid, but has no variant that fits the request."""

    exit_code = 23


class ExportError(EdgeDenoiseError):
    """A network could not be exported, or the exported graph breaks the graph contract."""

    exit_code = 30


class QuantizationError(EdgeDenoiseError):
    """A graph could not be quantized as requested."""

    exit_code = 40

    def __init__(self, message: str, *, hint: str | None = None, plan: object = None) -> None:
        super().__init__(message, hint=hint)
        self.plan = plan
        """Best plan of a search that did not meet its budget; None if there was no search.

        See `edgedenoise.exporting.quantization.search_result.Plan`.
        """


class ParityError(EdgeDenoiseError):
    """Two computations that must give the same pixels differ."""

    exit_code = 50


class RuntimeUnavailableError(EdgeDenoiseError):
    """The package of a runtime is missing or unusable; the hint is the command that installs it."""

    exit_code = 60


class DeviceError(EdgeDenoiseError):
    """A device cannot run the request."""

    exit_code = 70


class DeviceNotFoundError(DeviceError):
    """The requested device is not on this machine."""

    exit_code = 71


class DeviceFallbackError(DeviceError):
    """The runtime would have used another device than the requested one."""

    exit_code = 72


class DeviceMemoryError(DeviceError):
    """An image or a tile did not fit into memory."""

    exit_code = 73

    def __init__(self, message: str, *, suggested_tile: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.suggested_tile = suggested_tile
        """Smaller tile side in pixels to try next; None when there is none."""


class InferenceError(EdgeDenoiseError):
    """A session got invalid input, or gave invalid output."""

    exit_code = 80


class NotFiniteError(InferenceError):
    """A session gave NaN or infinity."""

    exit_code = 81


class TrainingError(EdgeDenoiseError):
    """A training run cannot start, resume or continue."""

    exit_code = 90


class Interrupted(KeyboardInterrupt):
    """A run was stopped by a signal and can be continued; the hint is the command that does it.

    It is a `KeyboardInterrupt`, so that it stops a script as Ctrl-C does.
    """

    def __init__(self, message: str, *, hint: str, signal_number: int = signal.SIGINT) -> None:
        super().__init__(message)
        self.message = message
        """What happened."""
        self.hint = hint
        """The command that continues the run."""
        self.exit_code = 128 + signal_number
        """130 for Ctrl-C and 143 for SIGTERM, as shells count."""


class TrainingInterrupted(Interrupted):
    """A training was stopped by a signal after it had written a checkpoint; the hint continues it."""


class MeasurementError(EdgeDenoiseError):
    """A command that measures variants could not measure any of them."""

    exit_code = 100


class ResultFileError(EdgeDenoiseError):
    """A result file is unreadable, of an unknown schema, or not a result file."""

    exit_code = 101


class RegressionError(EdgeDenoiseError):
    """A measurement is worse than earlier ones by more than their spread."""

    exit_code = 102


class LimitError(EdgeDenoiseError):
    """A bundle does not keep a limit of `edgedenoise test`."""

    exit_code = 103


class HostError(EdgeDenoiseError):
    """A device given with `--on` cannot be reached, lacks something, or its connection ended."""

    exit_code = 110


class RemoteCommandError(EdgeDenoiseError):
    """A command failed on a device given with `--on`."""

    exit_code = 111
