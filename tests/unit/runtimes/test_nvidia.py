"""GPUs are asked of the driver alone, and a missing, broken or empty driver is no error."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import pytest

from edgedenoise.runtimes.tensorrt import nvidia
from edgedenoise.runtimes.tensorrt.nvidia import Gpu, gpus

if TYPE_CHECKING:
    from collections.abc import Iterator


class Driver:
    """A libcuda with one GPU, whose functions write through pointers as C does."""

    def __init__(self, **statuses: int) -> None:
        self.statuses = statuses

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            if name == "cuDeviceGetName":
                arguments[0].value = b"Orin (nvgpu)"
            written = {
                "cuDeviceGetCount": 1,
                "cuDriverGetVersion": 12060,
                "cuDeviceGetAttribute": 8 if arguments[1:2] == (75,) else 7,
            }
            if name in written:
                arguments[0]._obj.value = written[name]
            return self.statuses.get(name, 0)

        return call


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    gpus.cache_clear()
    yield
    gpus.cache_clear()


def test_a_gpu_is_described_by_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "_library", Driver)
    assert gpus() == (Gpu(0, "Orin (nvgpu)", "8.7", "12.6"),)


@pytest.mark.parametrize("broken", ["cuInit", "cuDeviceGetCount", "cuDriverGetVersion", "cuDeviceGetName"])
def test_a_driver_that_fails_has_no_gpus(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "_library", lambda: Driver(**{broken: 999}))
    assert gpus() == ()


def test_a_gpu_is_found_although_its_memory_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "_library", lambda: Driver(cuDeviceTotalMem_v2=999))
    assert len(gpus()) == 1


def test_a_library_that_is_no_driver_has_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "_library", lambda: ctypes.CDLL(None))
    assert gpus() == ()


def test_without_a_driver_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "_LIBRARIES", ("libno-such-driver.so.1",))
    assert gpus() == ()
