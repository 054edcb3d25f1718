"""Measure C-BSN training steps per second: `python benchmarks/train_step.py`.

A step computes all three losses of `losses.cbsn_losses`, their gradients and an Adam update, on two patches of 120
pixels with stride 5. The form of the trainer is compared with the plain form, which has the default layout of torch and
dilated convolutions. Both are timed in turns in one process, so other work slows both; the medians are compared. The
peak is that of `edgedenoise train`: the fastest of several square matrix products, on the same threads.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import torch
from harness import check_out, parser_of, positive, run_benchmark, write_results

from edgedenoise.runtimes.machine import cpu_name
from edgedenoise.tables import table
from edgedenoise.training.loop.throughput import gflop_of, peak_gflops
from edgedenoise.training.networks.families import build_network, network_spec
from edgedenoise.training.objectives.losses import cbsn_losses

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from edgedenoise.training.networks.families import NetworkSpec

MODULES = {16: 4, 24: 4, 32: 5, 64: 5, 128: 9}
BATCH, PATCH_PX, STRIDE = 2, 120, 5
CPU = torch.device("cpu")


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def plain_form(spec: NetworkSpec) -> nn.Module:
    return build_network(spec, seed=0).eval()  # all its layers compute the same in training


def our_form(spec: NetworkSpec) -> nn.Module:
    return build_network(spec, seed=0).to(memory_format=torch.channels_last)


FORMS: dict[str, Callable[[NetworkSpec], nn.Module]] = {"plain": plain_form, "ours": our_form}


def loss_of(network: nn.Module) -> Callable[[], torch.Tensor]:
    """Return a function that computes the loss of a step, on the same patches each time."""
    x = torch.randn(BATCH, 3, PATCH_PX, PATCH_PX, generator=torch.Generator().manual_seed(0))
    mask = torch.randint(0, 4, (BATCH, PATCH_PX // 2, PATCH_PX // 2), generator=torch.Generator().manual_seed(1))
    return lambda: cbsn_losses(network, x, mask, blind_stride=STRIDE).total(0.5)


def step_of(network: nn.Module) -> Callable[[], None]:
    """Return a function that trains a network by one step, on the same patches each time."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    loss = loss_of(network)

    def step() -> None:
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()

    return step


def median_seconds(spec: NetworkSpec, repeats: int) -> dict[str, float]:
    """Measure the time of a step in each form, after one step that is not counted."""
    steps = {name: step_of(form(spec)) for name, form in FORMS.items()}
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(repeats + 1):
        for name, step in steps.items():
            took = seconds(step)
            if turn:
                times[name].append(took)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    parser = parser_of(__doc__, "train_step")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--widths", type=positive, nargs="+", default=list(MODULES))
    parser.add_argument("--modules", type=positive, help="modules per branch; default: those of the width")
    parser.add_argument("--repeats", type=positive, default=5)
    options = parser.parse_args()
    check_out(options.out, "train_step")
    torch.set_num_threads(options.threads)
    peak, rows = 0.0, []
    for width in options.widths:
        peak = max(peak, peak_gflops(CPU))  # again for every width, because other work may have slowed the last one
        spec = network_spec(f"cbsn-{width}x{options.modules or MODULES.get(width, 5)}")
        took = median_seconds(spec, options.repeats)
        speeds = {f"{form}_steps_per_s": 1 / seconds_ for form, seconds_ in took.items()}
        rows.append({"network": spec.name, **speeds, "gflops": gflop_of(loss_of(our_form(spec))) / took["ours"]})
    print(f"{cpu_name()}, threads {options.threads}, torch {torch.__version__}, sgemm peak {peak:.0f} GFLOP/s")
    cells = [
        [row["network"], f"{row['plain_steps_per_s']:.3f}", f"{row['ours_steps_per_s']:.3f}",
         f"{row['ours_steps_per_s'] / row['plain_steps_per_s']:.2f}", f"{row['gflops']:.0f}",
         f"{row['gflops'] / peak:.0%}"]
        for row in rows
    ]  # fmt: skip
    print(table(["network", "plain steps/s", "ours steps/s", "ratio", "ours GFLOP/s", "of sgemm peak"], cells))
    write_results(options.out, "train_step", {"threads": options.threads, "sgemm_peak_gflops": peak, "rows": rows})


if __name__ == "__main__":
    run_benchmark(main)
