"""Train the two networks of `LevelEstimator`: features and targets of noisy images, and the fit of a perceptron."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from harness import note
from torch import nn

from edgedenoise.noise.level_estimator import BLOCK_PX, FEATURES, FLOOR, LevelEstimator, Perceptron, features

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from level_noise import Pair
    from numpy.typing import NDArray

    Float = NDArray[np.float32]
    Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

CHECK_EVERY = 250
RATE = 4e-3


@dataclass(frozen=True)
class Pool:
    """Features of blocks or images, and what a network is to return for them."""

    features: Float
    """(N, inputs)."""
    target: Float
    """(N,): logarithms."""


@dataclass(frozen=True)
class Fit:
    """Settings of a training."""

    hidden: tuple[int, ...]
    outputs: int
    steps: int
    batch: int
    weight_decay: float
    loss: Loss
    seed: int


def block_pool(images: Iterable[Pair]) -> Pool:
    """Return the features of all blocks, and the logarithm of the root mean square of the noise in each."""
    found, targets = [], []
    for noisy, clean in images:
        error = np.square(noisy - clean).mean(axis=2)
        rows, columns = (side // BLOCK_PX for side in error.shape)
        cells = error[: rows * BLOCK_PX, : columns * BLOCK_PX].reshape(rows, BLOCK_PX, columns, BLOCK_PX)
        found.append(features(noisy).reshape(-1, FEATURES))
        targets.append(_log_sigma(cells.mean(axis=(1, 3)).ravel()))
    return Pool(np.concatenate(found), np.concatenate(targets))


def image_pool(block: Perceptron, images: Iterable[Pair]) -> Pool:
    """Return the features of images by their blocks, and the correction that their level needs."""
    found, targets = [], []
    for noisy, clean in images:
        base, summary = LevelEstimator(block).blocks(noisy).summary()
        found.append(summary)
        targets.append(_log_sigma(np.square(noisy - clean).mean()) - base)
    return Pool(np.stack(found), np.array(targets, np.float32))


def laplace(answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood of a Laplace distribution whose width the network returns too."""
    spread = answer[:, 1].clamp(-4, 3)
    return ((answer[:, 0] - target).abs() * torch.exp(-spread) + spread).mean()


def absolute(answer: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute error."""
    return (answer[:, 0] - target).abs().mean()


def fitted(pool: Pool, judge: Pool, settings: Fit) -> Perceptron:
    """Train a perceptron; the weights that are best on the pool of other photos are kept.

    The result depends on the pools and the settings alone.
    """
    mean, deviation = pool.features.mean(axis=0), pool.features.std(axis=0) + np.float32(1e-6)
    inputs, others = (torch.from_numpy((one.features - mean) / deviation) for one in (pool, judge))
    targets, expected = (torch.from_numpy(one.target) for one in (pool, judge))
    torch.manual_seed(settings.seed)
    sizes = (inputs.shape[1], *settings.hidden, settings.outputs)
    linear = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    network = nn.Sequential(*(module for layer in linear for module in (layer, nn.ReLU())))[:-1]
    with torch.no_grad():
        linear[-1].bias[:] = torch.tensor([float(targets.median()), -1.0][: settings.outputs])
        linear[-1].weight *= 0.1
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, settings.steps)
    best, kept = float("inf"), list[tuple[Any, Any]]()
    for step in range(1, settings.steps + 1):
        rows = torch.randint(len(inputs), (settings.batch,))
        loss = settings.loss(network(inputs[rows]), targets[rows])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        if step % CHECK_EVERY == 0 or step == settings.steps:
            with torch.no_grad():
                value = float(settings.loss(network(others), expected))
                error = float(absolute(network(others), expected))
            if value < best:
                best, kept = value, [(m.weight.detach().numpy().copy(), m.bias.detach().numpy().copy()) for m in linear]
            if step % (4 * CHECK_EVERY) == 0:
                note(f"step {step}: loss {float(loss.detach()):.3f}, on other photos {value:.3f}, error {error:.3f}")
    return Perceptron(mean.astype(np.float32), deviation.astype(np.float32), kept)


def _log_sigma(energy: Any) -> Float:
    return np.asarray(0.5 * np.log(energy + FLOOR), np.float32)
