"""The CUDA runtime library through ctypes: memory, copies, streams and events.

A Jetson has `libcudart` from JetPack, so neither torch nor pycuda is needed. The status of every call is checked;
running out of memory is its own error.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgedenoise.errors import DeviceMemoryError, InferenceError, RuntimeUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

ENVIRONMENT = "EDGEDENOISE_CUDART"
"""Environment variable with the path of the library, for libraries outside the usual places."""

_NAMES = (
    "libcudart.so",
    "libcudart.so.13",
    "libcudart.so.12",
    "libcudart.so.11.0",
    "cudart64_13.dll",
    "cudart64_12.dll",
    "cudart64_110.dll",
)
_FOLDERS = (
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/targets/aarch64-linux/lib",  # Jetson
    "/usr/local/cuda/targets/x86_64-linux/lib",
)
_WHEELS = ("nvidia/cuda_runtime/lib", "nvidia/cu13/lib", "nvidia/cuda_runtime/bin")

_SUCCESS = 0
_MEMORY_ALLOCATION = 2  # cudaErrorMemoryAllocation
_HOST_TO_DEVICE = 1
_DEVICE_TO_HOST = 2
_STREAM_NON_BLOCKING = 1
_POINTER = ctypes.c_void_p

_SIGNATURES: dict[str, tuple[type, ...]] = {
    "cudaSetDevice": (ctypes.c_int,),
    "cudaMalloc": (ctypes.POINTER(_POINTER), ctypes.c_size_t),
    "cudaFree": (_POINTER,),
    "cudaMallocHost": (ctypes.POINTER(_POINTER), ctypes.c_size_t),
    "cudaFreeHost": (_POINTER,),
    "cudaMemcpyAsync": (_POINTER, _POINTER, ctypes.c_size_t, ctypes.c_int, _POINTER),
    "cudaStreamCreateWithFlags": (ctypes.POINTER(_POINTER), ctypes.c_uint),
    "cudaStreamDestroy": (_POINTER,),
    "cudaStreamSynchronize": (_POINTER,),
    "cudaStreamWaitEvent": (_POINTER, _POINTER, ctypes.c_uint),
    "cudaEventCreate": (ctypes.POINTER(_POINTER),),
    "cudaEventDestroy": (_POINTER,),
    "cudaEventRecord": (_POINTER, _POINTER),
    "cudaEventSynchronize": (_POINTER,),
}


class Cudart:
    """The library, loaded. Pointers, streams and events are plain integers, as TensorRT wants them."""

    def __init__(self) -> None:
        """Load the library.

        Raises:
            RuntimeUnavailableError: the library was not found.
        """
        self._library = _load()
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = list(arguments), ctypes.c_int
        self._library.cudaGetErrorString.argtypes = [ctypes.c_int]
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    def set_device(self, index: int) -> None:
        """Set the GPU of the calling thread."""
        self._call("cudaSetDevice", index)

    def malloc(self, size_bytes: int) -> int:
        """Allocate memory on the GPU.

        Raises:
            DeviceMemoryError: there is not enough memory.
        """
        return self._made("cudaMalloc", size_bytes)

    def free(self, pointer: int) -> None:
        """Release GPU memory."""
        self._call("cudaFree", pointer)

    def malloc_host(self, size_bytes: int) -> int:
        """Allocate pinned memory of the host; only copies from pinned memory run beside other work.

        Raises:
            DeviceMemoryError: there is not enough memory.
        """
        return self._made("cudaMallocHost", size_bytes)

    def free_host(self, pointer: int) -> None:
        """Release pinned memory; arrays over it must not be used any more."""
        self._call("cudaFreeHost", pointer)

    def upload(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        """Queue a copy from pinned memory to the GPU."""
        self._call("cudaMemcpyAsync", device, host, size_bytes, _HOST_TO_DEVICE, stream)

    def download(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        """Queue a copy from the GPU to pinned memory."""
        self._call("cudaMemcpyAsync", host, device, size_bytes, _DEVICE_TO_HOST, stream)

    def stream(self) -> int:
        """Create a stream."""
        return self._made("cudaStreamCreateWithFlags", _STREAM_NON_BLOCKING)

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._call("cudaStreamDestroy", stream)

    def synchronize(self, stream: int) -> None:
        """Wait until a stream is empty."""
        self._call("cudaStreamSynchronize", stream)

    def event(self) -> int:
        """Create an event."""
        return self._made("cudaEventCreate")

    def destroy_event(self, event: int) -> None:
        """Destroy an event."""
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        """Record an event behind the work that a stream holds now."""
        self._call("cudaEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        """Make a stream wait for an event; the caller does not wait."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def wait_for(self, event: int) -> None:
        """Wait until a stream has reached an event."""
        self._call("cudaEventSynchronize", event)

    def _made(self, name: str, *arguments: int) -> int:
        made = _POINTER()
        self._call(name, ctypes.byref(made), *arguments)
        return made.value or 0

    def _call(self, name: str, *arguments: object) -> None:
        status = getattr(self._library, name)(*arguments)
        if status == _SUCCESS:
            return
        words = (self._library.cudaGetErrorString(status) or b"unknown").decode(errors="replace")
        if status == _MEMORY_ALLOCATION:
            raise DeviceMemoryError(
                f"the GPU ran out of memory: {name} returned {words}",
                hint="Close other programs on the GPU, or compile the variant for a smaller tile: --tile 256",
            )
        raise InferenceError(f"CUDA failed: {name} returned {words} ({status})")


def pinned_array(pointer: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return float32 pinned memory as an array; the memory must outlive the array."""
    buffer = (ctypes.c_float * math.prod(shape)).from_address(pointer)
    return np.asarray(np.ctypeslib.as_array(buffer).reshape(shape), np.float32)


def _load() -> ctypes.CDLL:
    tried = []
    for candidate in _candidates():
        try:
            return ctypes.CDLL(candidate)
        except OSError:
            tried.append(candidate)
    raise RuntimeUnavailableError(
        f"the CUDA runtime library was not found by name, in {', '.join(_FOLDERS)} or in a wheel"
        f" ({len(tried)} candidates)",
        hint="Install it with: pip install nvidia-cuda-runtime-cu12; or name it with:"
        f" export {ENVIRONMENT}=/path/libcudart.so",
    )


def _candidates() -> Iterator[str]:
    named = os.environ.get(ENVIRONMENT)
    if named:
        yield named
        return  # a library that was named is never replaced by another one
    yield from _NAMES
    for folder in (*_FOLDERS, *(str(Path(base) / wheel) for base in sys.path if base for wheel in _WHEELS)):
        for pattern in ("libcudart.so*", "cudart64_*.dll"):
            yield from sorted(str(path) for path in Path(folder).glob(pattern))
