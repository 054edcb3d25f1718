"""Find the NVIDIA GPUs of this machine through the driver.

No TensorRT object is created for this: without a GPU some versions return null and crash when the process ends. The
driver's library is called through ctypes, which takes a millisecond and needs no package.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")
_SUCCESS = 0
_COMPUTE_CAPABILITY_MAJOR = 75  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, cuda.h
_COMPUTE_CAPABILITY_MINOR = 76
_NAME_BYTES = 256


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA GPU, as the driver describes it."""

    index: int
    name: str
    compute_capability: str
    """`major.minor`, for example `8.7` for Jetson Orin."""
    driver: str
    """Newest CUDA version that the driver supports, `major.minor`."""


@cache
def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that the CUDA driver finds; none where the driver or the GPU is missing or broken."""
    library = _library()
    if library is None:
        return ()
    count, version = ctypes.c_int(), ctypes.c_int()
    try:
        if library.cuInit(0) != _SUCCESS or library.cuDeviceGetCount(ctypes.byref(count)) != _SUCCESS:
            return ()
        if library.cuDriverGetVersion(ctypes.byref(version)) != _SUCCESS:
            return ()
        driver = f"{version.value // 1000}.{version.value % 1000 // 10}"
        found = [_gpu(library, index, driver) for index in range(count.value)]
    except AttributeError:  # a library of that name that is not the driver
        return ()
    return tuple(gpu for gpu in found if gpu is not None)


def _library() -> ctypes.CDLL | None:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    return None


def _gpu(library: ctypes.CDLL, index: int, driver: str) -> Gpu | None:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    asked = (
        library.cuDeviceGet(ctypes.byref(device), index),
        library.cuDeviceGetName(name, _NAME_BYTES, device),
        library.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device),
        library.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device),
    )
    if any(status != _SUCCESS for status in asked):
        return None
    text = name.value.decode(errors="replace")
    return Gpu(index, text, f"{major.value}.{minor.value}", driver)
