"""Errors of vendor libraries, translated into ours: out of memory is recognised and worded here, for every backend."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgedenoise.errors import DeviceMemoryError, EdgeDenoiseError, InferenceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_OUT_OF_MEMORY = (
    "alloc",  # failed to allocate, bad_alloc, allocation failure
    "out of memory",
    "out_of_memory",
    "out_of_host_memory",
    "out_of_device_memory",
    "out_of_resources",
    "out of resources",
    "not enough memory",
    "insufficient memory",
    "memory object",  # oneDNN: could not create a memory object
    "size of memory",  # OpenVINO on GPUs: exceeded max size of memory object allocation
)
"""Parts of messages by which vendor libraries report that memory ran out, in lower case. A message that is taken for
one of these by mistake costs a few attempts with smaller tiles."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports that memory ran out."""
    return isinstance(error, MemoryError) or any(words in str(error).lower() for words in _OUT_OF_MEMORY)


def memory_error(backend: str, shape: Sequence[int] | None = None, *, detail: str = "") -> DeviceMemoryError:
    """Return the error that says that a backend ran out of memory.

    Args:
        backend: product name of the backend.
        shape: (1, 3, h, w) of the tile, margins included; None when the model itself did not fit.
        detail: what the vendor's library reported.
    """
    because = f": {detail}" if detail else ""
    if shape is None:
        return DeviceMemoryError(
            f"{backend} ran out of memory while it opened the model{because}",
            hint="Close other programs that use this device, or choose another one with --device",
        )
    smaller = max(shape[2:]) // 2
    return DeviceMemoryError(
        f"{backend} ran out of memory on a {shape[2]}x{shape[3]} tile (halo included){because}",
        suggested_tile=smaller,
        hint=f"Use a smaller tile: --tile {smaller}",
    )


@contextmanager
def inference_errors(
    backend: str,
    doing: str,
    kinds: tuple[type[Exception], ...],
    *,
    shape: Sequence[int] | None = None,
    hint: str | None = None,
) -> Iterator[None]:
    """Translate the errors of a vendor's library that occur in the block.

    Args:
        backend: product name of the backend.
        doing: what the block does, to follow "cannot": `open model.onnx`.
        kinds: the library's own exception classes.
        shape: of the tile that is being run; None while a model is opened.
        hint: what to do next, unless memory ran out.

    Raises:
        DeviceMemoryError: memory ran out.
        InferenceError: anything else of these kinds.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, EdgeDenoiseError) or not isinstance(error, (MemoryError, *kinds)):
            raise
        if is_out_of_memory(error):
            raise memory_error(backend, shape, detail=_first_line(error)) from error
        raise InferenceError(f"{backend} cannot {doing}: {error}", hint=hint) from error


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
