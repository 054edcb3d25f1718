"""Read JSON and NumPy arrays of a bundle: whatever is wrong with the bytes is one error, and memory is bounded."""

from __future__ import annotations

import zipfile
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from edgedenoise.errors import EdgeDenoiseError, IntegrityError
from edgedenoise.imaging.arrays import NUMBERS, parse_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Content = TypeVar("Content")

_MAX_ARRAYS_BYTES: Final = 1 << 30
"""Most memory that the arrays of one file may take."""


@contextmanager
def damage_reported(what: str) -> Iterator[None]:
    """Translate whatever damaged bytes cause in a parser; the block must hold nothing else.

    Args:
        what: the file, for the message.

    Raises:
        IntegrityError: the block failed.
    """
    try:
        yield
    except EdgeDenoiseError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise IntegrityError(
            f"{what} cannot be read: {reason}", hint="Copy the bundle again from where it came."
        ) from error


def read_json(data: bytes, kind: type[Content], what: str) -> Content:
    """Return the content of a JSON file as a struct.

    Raises:
        IntegrityError: it is not JSON of that kind; `what` names the file.
    """
    with damage_reported(what):
        return msgspec.json.decode(data, type=kind)


def read_array(data: bytes, what: str) -> NDArray[Any]:
    """Return the array in an `.npy` file; an object, which could contain code, is never read.

    Raises:
        IntegrityError: it is not such a file, or the header claims more than there is; `what` names the file.
    """
    with damage_reported(what):
        return parse_array(data, NUMBERS + "U")  # and texts, for names


def read_arrays(data: bytes, what: str) -> dict[str, NDArray[Any]]:
    """Return the arrays in an `.npz` file by name.

    Raises:
        IntegrityError: it is not such a file, or its arrays take more than a gigabyte; `what` names the file.
    """
    with damage_reported(what), zipfile.ZipFile(BytesIO(data)) as archive:
        sizes = sum(member.file_size for member in archive.infolist())
        if sizes > _MAX_ARRAYS_BYTES:
            raise ValueError(f"its arrays have {sizes} bytes; expected at most {_MAX_ARRAYS_BYTES}")
        return {
            member.filename.removesuffix(".npy"): read_array(archive.read(member), f"{what}: {member.filename}")
            for member in archive.infolist()
        }
