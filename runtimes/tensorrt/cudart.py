"""The CUDA runtime library through ctypes: memory, copies, streams and events, and nothing else.

A Jetson has `libcudart` from JetPack and needs neither torch nor pycuda for what a denoiser does with it. Every call's
status is checked; running out of memory is its own error.
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
"""Environment variable that names the library, where it is in none of the usual places."""

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
            RuntimeUnavailableError: it is nowhere.
        """
        self._library = _load()
        for name, arguments in _SIGNATURES.items():
            function = getattr(self._library, name)
            function.argtypes, function.restype = list(arguments), ctypes.c_int
        self._library.cudaGetErrorString.argtypes = [ctypes.c_int]
        self._library.cudaGetErrorString.restype = ctypes.c_char_p

    def set_device(self, index: int) -> None:
        """Make a GPU the calling thread's own."""
        self._call("cudaSetDevice", index)

    def malloc(self, size_bytes: int) -> int:
        """Allocate memory on the GPU.

        Raises:
            DeviceMemoryError: there is not enough.
        """
        return self._made("cudaMalloc", size_bytes)

    def free(self, pointer: int) -> None:
        """Free GPU memory."""
        self._call("cudaFree", pointer)

    def malloc_host(self, size_bytes: int) -> int:
        """Allocate pinned host memory, from which copies run beside other work.

        Raises:
            DeviceMemoryError: there is not enough.
        """
        return self._made("cudaMallocHost", size_bytes)

    def free_host(self, pointer: int) -> None:
        """Free pinned memory; arrays over it must not be used afterwards."""
        self._call("cudaFreeHost", pointer)

    def upload(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        """Start a copy from pinned memory to the GPU."""
        self._call("cudaMemcpyAsync", device, host, size_bytes, _HOST_TO_DEVICE, stream)

    def download(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        """Start a copy from the GPU to pinned memory."""
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
        """Record an event behind the current work of a stream."""
        self._call("cudaEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        """Make a stream wait for an event, without blocking the caller."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def wait_for(self, event: int) -> None:
        """Wait until a stream has passed an event."""
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
                f"the GPU ran out of memory: {name} answered {words}",
                hint="close other programs on the GPU, or compile the network for a smaller tile: --tile 256",
            )
        raise InferenceError(f"CUDA failed: {name} answered {words} ({status})")


def pinned_array(pointer: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return float32 pinned memory as an array; it must outlive the array's use."""
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
        f"the CUDA runtime library was found neither by name nor in {', '.join(_FOLDERS)} nor in a wheel"
        f" ({len(tried)} candidates)",
        hint=f"pip install nvidia-cuda-runtime-cu12; or name the one there is: export {ENVIRONMENT}=/path/libcudart.so",
    )


def _candidates() -> Iterator[str]:
    named = os.environ.get(ENVIRONMENT)
    if named:
        yield named
        return  # what was named is what is meant: another one would be a surprise
    yield from _NAMES
    for folder in (*_FOLDERS, *(str(Path(base) / wheel) for base in sys.path if base for wheel in _WHEELS)):
        for pattern in ("libcudart.so*", "cudart64_*.dll"):
            yield from sorted(str(path) for path in Path(folder).glob(pattern))
