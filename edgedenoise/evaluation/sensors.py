"""Sensors of the machine: clocks, temperature, energy and power mode, read where the system lets them be read.

Whatever cannot be read is None: virtual machines have no sensors, and the energy counter of many systems is for root
alone. Every function takes the root of the file system, so that tests can make the files of another machine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path("/")
_NVML_SLOWDOWNS = 0x4 | 0x8 | 0x20 | 0x40 | 0x80
"""Bits of NVML's clock-event reasons that lower the clocks: power cap, hardware and software slowdown, heat, brake."""


class Energy(NamedTuple):
    """A reading of the energy counters."""

    joules: tuple[float, ...]
    """One per counter."""
    ranges: tuple[float, ...]
    """Value at which each counter starts again from 0."""


class GpuState(NamedTuple):
    """State of a GPU."""

    name: str
    clock_mhz: float | None = None
    temperature_c: float | None = None
    power_w: float | None = None
    throttled: bool | None = None


def cpu_clocks_mhz(root: Path = _ROOT) -> tuple[float, ...]:
    """Return the current clock of each CPU core in MHz; empty where it is not known."""
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq"), key=_by_number)
    clocks = tuple(value / 1000 for value in map(_number, files) if value is not None)
    return clocks or tuple(
        float(line.partition(":")[2]) for line in _lines(root / "proc/cpuinfo") if line.startswith("cpu MHz")
    )


def cpu_temperature_c(root: Path = _ROOT) -> float | None:
    """Return the temperature of the hottest sensor of the processor in degrees Celsius, or None."""
    zones = [
        folder / "temp"
        for folder in (root / "sys/class/thermal").glob("thermal_zone*")
        if re.search(r"cpu|soc|pkg|x86|tj|gpu|acpitz", _text(folder / "type"), re.IGNORECASE)
    ]
    for folder in (root / "sys/class/hwmon").glob("hwmon*"):
        if _text(folder / "name") in ("coretemp", "k10temp", "zenpower", "cpu_thermal"):
            zones += folder.glob("temp*_input")
    found = [value / 1000 for value in map(_number, zones) if value is not None]
    return max((value for value in found if -50 < value < 200), default=None)


def throttle_count(root: Path = _ROOT) -> int | None:
    """Return how often heat has lowered the clocks since the machine was started (x86), or None."""
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
    counts = [int(value) for value in map(_number, files) if value is not None]
    return sum(counts) if counts else None


def power_mode(root: Path = _ROOT) -> str:
    """Return the governor of the CPU, the platform's profile and the mode of a Jetson; empty where none is known."""
    governors = {_text(file) for file in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor")}
    nvpmodel = _text(root / "var/lib/nvpmodel/status").removeprefix("pmode:")
    supplies = (root / "sys/class/power_supply").glob("*")
    battery = any(_text(one / "type") == "Battery" and _text(one / "status") == "Discharging" for one in supplies)
    parts = [
        "/".join(sorted(governors - {""})),
        _text(root / "sys/firmware/acpi/platform_profile"),
        f"nvpmodel {nvpmodel}" if nvpmodel else "",
        "on battery" if battery else "",
    ]
    return ", ".join(part for part in parts if part)


def stalled_seconds(root: Path = _ROOT) -> float | None:
    """Return how long work has waited for a CPU since the machine was started (Linux PSI), or None."""
    for line in _lines(root / "proc/pressure/cpu"):
        found = re.match(r"some .*total=(\d+)", line)
        if found:
            return int(found[1]) / 1e6
    return None


def energy_j(root: Path = _ROOT) -> Energy | None:
    """Return the energy counters of the processor packages (RAPL), or None where they cannot be read."""
    packages = sorted((root / "sys/class/powercap").glob("intel-rapl:[0-9]*"))
    packages = [folder for folder in packages if folder.name.count(":") == 1]  # the others are parts of a package
    values = [_number(folder / "energy_uj") for folder in packages]
    ranges = [_number(folder / "max_energy_range_uj") for folder in packages]
    if not values or None in values:
        return None
    return Energy(tuple((v or 0) / 1e6 for v in values), tuple((r or 0) / 1e6 for r in ranges))


def energy_between(first: Energy | None, last: Energy | None) -> float | None:
    """Return the joules that were used between two readings, or None."""
    if first is None or last is None or len(first.joules) != len(last.joules):
        return None
    differences = [b - a for a, b in zip(first.joules, last.joules, strict=True)]
    return sum(d if d >= 0 else d + most for d, most in zip(differences, last.ranges, strict=True))


def board_power_w(root: Path = _ROOT) -> float | None:
    """Return the power of a Jetson's input rail in watts (INA3221), or None."""
    for folder in (root / "sys/class/hwmon").glob("hwmon*"):
        if _text(folder / "name") != "ina3221":
            continue
        for label in sorted(folder.glob("in*_label")):
            number = label.name[2 : -len("_label")]
            volt, ampere = _number(folder / f"in{number}_input"), _number(folder / f"curr{number}_input")
            if _text(label) in ("VDD_IN", "VIN_SYS_5V0") and volt is not None and ampere is not None:
                return volt * ampere / 1e6
    return None


def gpus() -> tuple[GpuState, ...]:
    """Return the state of the NVIDIA GPUs: by NVML (the extra `bench`), else by `tegrastats` of a Jetson."""
    return tuple(_nvml_gpus()) or tuple(filter(None, [_tegra_gpu()]))


def _nvml_gpus() -> Iterator[GpuState]:
    try:
        import pynvml
    except ImportError:
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver
        return
    try:
        for index in range(pynvml.nvmlDeviceGetCount()):
            yield _nvml_gpu(pynvml, pynvml.nvmlDeviceGetHandleByIndex(index))
    finally:
        pynvml.nvmlShutdown()


def _nvml_gpu(nvml: Any, handle: Any) -> GpuState:
    def read(name: str, *arguments: Any) -> Any:
        with suppress(nvml.NVMLError):  # a sensor that this GPU does not have
            return getattr(nvml, name)(handle, *arguments)
        return None

    name = read("nvmlDeviceGetName")
    milliwatts, reasons = read("nvmlDeviceGetPowerUsage"), read("nvmlDeviceGetCurrentClocksEventReasons")
    return GpuState(
        name.decode() if isinstance(name, bytes) else str(name),
        read("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
        read("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
        None if milliwatts is None else milliwatts / 1000,
        None if reasons is None else bool(reasons & _NVML_SLOWDOWNS),
    )


def _tegra_gpu() -> GpuState | None:
    program = shutil.which("tegrastats")
    if program is None:
        return None
    try:
        process = subprocess.Popen([program, "--interval", "100"], stdout=subprocess.PIPE, text=True)
    except OSError:
        return None
    with process:
        line = process.stdout.readline() if process.stdout is not None else ""
        process.terminate()
    return parse_tegrastats(line)


def parse_tegrastats(line: str) -> GpuState | None:
    """Return the state of a Jetson's GPU from a line of `tegrastats`; None where the line has none.

    Example:
        >>> parse_tegrastats("RAM 3/7 CPU [1%@1510] GR3D_FREQ 35%@[611] gpu@48.5C VDD_IN 6120mW/5900mW")
        GpuState(name='Tegra', clock_mhz=611.0, temperature_c=48.5, power_w=6.12, throttled=None)
    """
    if "GR3D_FREQ" not in line:
        return None
    clock = re.search(r"GR3D_FREQ \d+%@\[?(\d+)", line)
    heat = re.search(r"\bgpu@(-?[\d.]+)C", line, re.IGNORECASE)
    power = re.search(r"\b(?:VDD_IN|POM_5V_IN) (\d+)(?:mW)?/", line)
    return GpuState(
        "Tegra",
        float(clock[1]) if clock else None,
        float(heat[1]) if heat else None,
        float(power[1]) / 1000 if power else None,
    )


def _by_number(path: Path) -> int:
    found = re.search(r"/cpu(\d+)/", path.as_posix())
    return int(found[1]) if found else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()
