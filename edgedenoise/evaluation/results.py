"""Result files: what any measurement on any device writes, and what `report`, `history` and `bench-check` read.

The schema is `edgedenoise-result/1`. Python, remote devices, browsers, Swift, Kotlin and C++ write the same JSON;
docs/reference/result-format.md describes it, and the JSON Schema beside that page is made from this module.

A file holds raw samples and no statistics: medians, percentiles, ratios and means are computed by the reader, so that
each number of a report can be traced to the samples that it comes from. The schema is additive. A reader ignores fields
that it does not know, and refuses another schema.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

SCHEMA = "edgedenoise-result/1"

NonNegative = Annotated[float, msgspec.Meta(ge=0)]
Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[int, msgspec.Meta(ge=1)]
Instant = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")]

NETWORK = "network"
"""Scope of timing the network alone: one inference of one input that is already in memory."""
CALL = "call"
"""Scope of timing a whole call: normalization, tiling, inference and the inverse steps."""
NOISE = "noise_lsb"
"""Measure of a noisy image: its estimated noise in 8-bit levels."""


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """The program that measured."""

    name: str
    """`python`, `web`, `swift`, `kotlin` or `cpp`."""
    version: str
    """Version of edgedenoise, or of the program."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The device that was measured; what does not change from one run to the next."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    """Stable identifier of the device, for example a hash of its machine id. It has no personal data."""
    label: Annotated[str, msgspec.Meta(min_length=1)]
    """Name for people: the host name, or what was given with `--on`. Runs with equal `id` and `label` are of one
    device."""
    system: str
    """Operating system and its version."""
    architecture: str
    """Instruction set of the measured process: `x86_64`, `aarch64`, `arm64`, `wasm32`."""
    cpu: str = ""
    """Name of the CPU or of the system on a chip."""
    cores: Count = 0
    """Logical processors that the process may use; 0 where it is not known."""
    model: str = ""
    """Name of the board, phone or computer; empty where it is not known."""
    memory_bytes: Count | None = None
    """Physical memory."""
    accelerators: tuple[str, ...] = ()
    """Names of GPUs and NPUs."""
    cpu_features: tuple[str, ...] = ()
    """Instruction-set extensions that decide about INT8, such as `avx2` and `avx512_vnni`."""


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """State of the machine at one instant. All fields that it cannot read are null."""

    elapsed_s: NonNegative
    """Time since the start of the run."""
    load_average: NonNegative | None = None
    """Processes that ran or waited for a CPU, average over the last minute."""
    cpu_pressure_percent: NonNegative | None = None
    """Part of the last ten seconds in which work waited for a CPU (Linux PSI)."""
    free_memory_bytes: Count | None = None
    cpu_clock_mhz: tuple[float, ...] = ()
    """Current clock of each CPU core."""
    gpu_clock_mhz: NonNegative | None = None
    temperature_c: float | None = None
    """Hottest sensor of the processor that was measured."""
    power_w: NonNegative | None = None
    """Power draw of the processor, or of the board."""
    energy_j: NonNegative | None = None
    """Counter of the energy that was used; the difference of two readings counts."""
    throttled: bool | None = None
    """Whether the system reported that it lowered the clocks because of heat or power."""


class RunEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """What may change from one run to the next on the same machine."""

    versions: dict[str, str] = {}
    """Version of each package, driver and interpreter that affects speed or results."""
    threads: Positive | None = None
    """Threads of one inference; null where the runtime chose."""
    power_mode: str = ""
    """For example `performance`, `MAXN` or `low power`; empty where it is not known."""
    settings: dict[str, str] = {}
    """Environment variables that affect the measurement, such as OMP_NUM_THREADS."""
    contended: bool | None = None
    """Whether other work slowed the measurement; null where it is not known."""
    throttled: bool | None = None
    """Whether heat or a power limit slowed the measurement; null where it is not known."""
    remarks: tuple[str, ...] = ()
    """Warnings about the measurement, each as a sentence."""
    conditions: tuple[Conditions, ...] = ()
    """Readings in order of time; the first is from before the measurement, the last from after it."""


class BundleIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle that was measured."""

    name: str
    digest: str
    """SHA-256 of its manifest, which has the hashes of all files; empty for a lone model file."""
    network: str = ""
    macs_per_px: Count = 0
    """Multiply-accumulates per input pixel; 0 where they are not known."""
    source: str = ""
    """Path or name that was given to the command."""


class ImageQuality(msgspec.Struct, frozen=True, kw_only=True):
    """Quality of one image against its ground truth, as users see it: clipped, rounded 8-bit sRGB."""

    psnr_db: float | None
    """Null where the images are equal, because JSON has no infinity."""
    ssim: float | None = None
    """Null where the image is too small."""
    color_shift_lsb: tuple[float, float, float] | None = None
    """Mean of (image - truth) of red, green and blue, in 8-bit levels."""
    more: dict[str, float] = {}
    """Further measures by name: `ms_ssim`, `blotches_lsb`, and the task `edges` or `keypoints`, where they were
    measured."""


class ImageDistance(msgspec.Struct, frozen=True, kw_only=True):
    """Distance of one image to the float variant's, in the unit range, clipped and not rounded."""

    psnr_db: float | None
    """Null where the images are equal, because JSON has no infinity."""
    max_error_lsb: NonNegative
    """Maximum absolute error in 8-bit levels."""
    color_shift_lsb: tuple[float, float, float] | None = None
    """Mean of (image - float image) of red, green and blue, in 8-bit levels."""


class ImageRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An image that was denoised."""

    name: str
    """File name; unique in the run."""
    height_px: Positive
    width_px: Positive
    sha256: str = ""
    """Hash of the file."""
    noisy: ImageQuality | None = None
    """Quality of the noisy image; null without ground truth."""
    measures: dict[str, float] = {}
    """Measures of the noisy image that need no ground truth, by name, such as `residual_noise_lsb`; `noise_lsb` is its
    estimated noise, where the network takes the noise level."""
    auto: str = ""
    """Variant of the run that `denoise` runs the image on when none is named; empty where it is not known."""


class ImageResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant made of one image."""

    image: str
    """Name of one of the run's images."""
    quality: ImageQuality | None = None
    """Null without ground truth."""
    to_float: ImageDistance | None = None
    """Null for the float reference itself."""
    finite: bool = True
    """Whether the result was free of NaN and infinity."""
    measures: dict[str, float] = {}
    """Measures that need no ground truth, by name: `residual_noise_lsb` and `detail_kept`."""


class LatencySamples(msgspec.Struct, frozen=True, kw_only=True):
    """Times of one variant on one input, one per round."""

    scope: str
    """`network` for the network alone, `call` for a whole call; readers skip other scopes."""
    height_px: Positive
    width_px: Positive
    samples_ms: tuple[NonNegative, ...]
    """Time of every round that counts, in order. All variants of a run were timed in each round, so samples at the
    same place, scope and size belong together and their ratio holds when the machine's speed drifts."""
    warm_up_ms: tuple[NonNegative, ...] = ()
    """Times of the rounds before them, which do not count."""
    images: Positive = 1
    """Images per sample, above 1 where throughput was measured."""


class SelfTest(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of the bundle's self-test on the device."""

    passed: bool
    psnr_db: float | None = None
    """To the float output of the bundle; null where they are equal, or where the test did not run to its end."""
    limit_db: float | None = None
    """PSNR that the variant must reach."""
    max_error_lsb: NonNegative | None = None
    """Maximum absolute error in 8-bit levels."""
    reason: str = ""
    """What failed; empty when the test was passed."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One limit, and whether it was kept."""

    name: str
    """For example `max_drop_db`; unique together with `variant` and `image`."""
    passed: bool
    value: float | None = None
    """What was measured; null where nothing was, or where it is infinite."""
    limit: float | None = None
    """What was demanded."""
    unit: str = ""
    """Unit of both: `dB`, `ms`, `LSB` or `ratio`."""
    at_least: bool = False
    """Whether the value must be at least the limit; otherwise at most."""
    variant: str = ""
    """Empty when it is about the whole bundle."""
    image: str = ""
    """The image that decided, where there is one."""
    message: str = ""
    """One line for people."""


class VariantResult(msgspec.Struct, frozen=True, kw_only=True):
    """Results of one variant."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    runtime: str
    precision: str
    """`fp32`, `fp16`, `int8` or `w8a16`."""
    size_bytes: Count
    """Size of all files of the variant."""
    runtime_version: str = ""
    device: str = ""
    """Device that ran, as the runtime reports it."""
    detail: str = ""
    """How it ran, as the runtime reports it."""
    scheme: str = ""
    """Quantization scheme; empty for float variants."""
    load_ms: NonNegative | None = None
    """Time to open the session."""
    peak_rss_bytes: Count | None = None
    """Peak resident memory of the process that ran it."""
    timings: tuple[LatencySamples, ...] = ()
    images: tuple[ImageResult, ...] = ()
    selftest: SelfTest | None = None
    """Null when it was not run."""
    compared_with: str = ""
    """Float variant of the same run that its speed is compared with; empty when there is none."""
    slower_because: str = ""
    """Likely reasons why it is slower than float, where it is."""
    not_recommended: str = ""
    """Recorded loss of a variant that loses too much against float."""
    least_noise_lsb: NonNegative = 0.0
    """Least noise of the images that it is recommended for, in 8-bit levels: `denoise` runs those with less in float.
    0 for all images."""
    error: str = ""
    """Why it was not measured; empty when it was."""

    def timing(self, scope: str) -> LatencySamples | None:
        """Return the first timing of a scope, or None."""
        return next((timing for timing in self.timings if timing.scope == scope), None)


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement of one bundle on one device."""

    id: Annotated[str, msgspec.Meta(min_length=1)]
    """Random identifier. A run that is found in several files counts once."""
    command: str
    """What was done: `bench`, `compare` or `test`."""
    arguments: tuple[str, ...] = ()
    """Words of the command line that repeats it."""
    started: Instant
    """Start in UTC, ISO 8601, for example 2026-11-27T01:02:03Z."""
    duration_s: NonNegative
    client: Client
    machine: Machine
    environment: RunEnvironment
    bundle: BundleIdentity
    variants: tuple[VariantResult, ...]
    images: tuple[ImageRecord, ...] = ()
    checks: tuple[Check, ...] = ()

    @property
    def device(self) -> tuple[str, str]:
        """What identifies the device among all files: (id, label) of the machine."""
        return self.machine.id, self.machine.label

    def variant(self, name: str) -> VariantResult | None:
        """Return a variant by name, or None."""
        return next((variant for variant in self.variants if variant.name == name), None)


class ResultFile(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a result file: any number of runs, of one device or of several."""

    schema: str = SCHEMA
    runs: tuple[Run, ...]
