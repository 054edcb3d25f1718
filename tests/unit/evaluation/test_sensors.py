"""Sensors are read from the files of the system, and are None where a machine has none."""

from __future__ import annotations

import stat
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from edgedenoise.evaluation import sensors
from edgedenoise.evaluation.sensors import Energy, GpuState

if TYPE_CHECKING:
    from pathlib import Path


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    return root


LAPTOP = {
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000",
    "sys/devices/system/cpu/cpu10/cpufreq/scaling_cur_freq": "800000",
    "sys/devices/system/cpu/cpu2/cpufreq/scaling_cur_freq": "3100000",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave",
    "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3",
    "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "4",
    "sys/firmware/acpi/platform_profile": "balanced",
    "sys/class/power_supply/BAT0/type": "Battery",
    "sys/class/power_supply/BAT0/status": "Discharging",
    "sys/class/thermal/thermal_zone0/type": "x86_pkg_temp",
    "sys/class/thermal/thermal_zone0/temp": "71000",
    "sys/class/thermal/thermal_zone1/type": "BAT0",
    "sys/class/thermal/thermal_zone1/temp": "90000",
    "sys/class/powercap/intel-rapl:0/energy_uj": "5000000",
    "sys/class/powercap/intel-rapl:0/max_energy_range_uj": "8000000",
    "sys/class/powercap/intel-rapl:0:0/energy_uj": "777",
    "proc/pressure/cpu": "some avg10=1.00 avg60=2.00 avg300=3.00 total=2500000\nfull avg10=0.00 total=0",
}
JETSON = {
    "proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 1510.4",
    "var/lib/nvpmodel/status": "pmode:0000",
    "sys/class/hwmon/hwmon3/name": "ina3221",
    "sys/class/hwmon/hwmon3/in1_label": "VDD_IN",
    "sys/class/hwmon/hwmon3/in1_input": "5000",
    "sys/class/hwmon/hwmon3/curr1_input": "1200",
}


def test_a_laptop(tmp_path: Path) -> None:
    root = write(tmp_path, LAPTOP)
    assert sensors.cpu_clocks_mhz(root) == (2400.0, 3100.0, 800.0)
    assert sensors.cpu_temperature_c(root) == 71.0, "the battery is no part of the processor"
    assert sensors.throttle_count(root) == 7
    assert sensors.power_mode(root) == "powersave, balanced, on battery"
    assert sensors.stalled_seconds(root) == 2.5
    assert sensors.energy_j(root) == Energy((5.0,), (8.0,)), "parts of a package are counted in it"


def test_a_jetson(tmp_path: Path) -> None:
    root = write(tmp_path, JETSON)
    assert sensors.cpu_clocks_mhz(root) == (1510.4,)
    assert sensors.power_mode(root) == "nvpmodel 0000"
    assert sensors.board_power_w(root) == 6.0


def test_a_machine_without_sensors(tmp_path: Path) -> None:
    assert sensors.cpu_clocks_mhz(tmp_path) == ()
    assert sensors.power_mode(tmp_path) == ""
    for read in (
        sensors.cpu_temperature_c,
        sensors.throttle_count,
        sensors.stalled_seconds,
        sensors.energy_j,
        sensors.board_power_w,
    ):
        assert read(tmp_path) is None


def test_a_counter_of_energy_starts_again_from_zero() -> None:
    assert sensors.energy_between(Energy((5.0,), (8.0,)), Energy((7.0,), (8.0,))) == 2.0
    assert sensors.energy_between(Energy((7.0,), (8.0,)), Energy((1.0,), (8.0,))) == 2.0
    assert sensors.energy_between(None, Energy((1.0,), (8.0,))) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "11-27-2026 01:02:03 RAM 24/74MB CPU [2%@1510,0%@1510] GR3D_FREQ 98%@[918] gpu@48.9C VDD_IN 9870mW/8000mW",
            GpuState("Tegra", 918.0, 48.9, 9.87),
        ),
        (
            "RAM 1500/3964MB CPU [10%@921] EMC_FREQ 0% GR3D_FREQ 0%@76 PLL@30C CPU@32C GPU@31.5C POM_5V_IN 2080/2080",
            GpuState("Tegra", 76.0, 31.5, 2.08),
        ),
        ("RAM 1500/3964MB", None),
    ],
)
def test_a_line_of_tegrastats(line: str, expected: GpuState | None) -> None:
    assert sensors.parse_tegrastats(line) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands in for tegrastats")
def test_tegrastats_is_run_for_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "tegrastats"
    program.write_text(
        "#!/bin/sh\nwhile :; do echo 'GR3D_FREQ 35%@[611] gpu@48.5C VDD_IN 6120mW/5900mW'; sleep 0.1; done\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert sensors.gpus() == (GpuState("Tegra", 611.0, 48.5, 6.12),)


def test_nvml_is_read_as_far_as_a_gpu_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def absent(*arguments: object) -> None:
        raise NVMLError

    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: b"NVIDIA Test",
        nvmlDeviceGetClockInfo=lambda handle, kind: 1410,
        nvmlDeviceGetTemperature=lambda handle, kind: 61,
        nvmlDeviceGetPowerUsage=absent,
        nvmlDeviceGetCurrentClocksEventReasons=lambda handle: 0x4,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert sensors.gpus() == (GpuState("NVIDIA Test", 1410, 61, None, True),)
    monkeypatch.setattr(nvml, "nvmlInit", absent)  # no driver
    assert [one.name for one in sensors.gpus() if one.name != "Tegra"] == []
