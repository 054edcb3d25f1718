"""The losses of C-BSN and of SDAP: one function each, with its equation.

C-BSN: Jang et al., ICCV 2023, section 3. SDAP: Pan et al., ICCV 2023, section 3. f is the network, f_M the same
network blind; S_k and B_k are space-to-batch and its inverse; RS is the random sub-sampler under one mask. All are
mean absolute errors over normalised pixels x, of shape (N, 3, H, W).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from edgedenoise.training.objectives.sampling import permuted_subsamples, random_subsample, space_to_batch

if TYPE_CHECKING:
    from torch import nn


class CBSNLosses(NamedTuple):
    """The three losses of one batch, each a scalar tensor."""

    blind: torch.Tensor
    """L_blind: denoise a pixel from its surroundings."""
    self_: torch.Tensor
    """L_self: keep what the non-blind network sees of the pixel itself."""
    inv: torch.Tensor
    """L_inv: match the blind network on the sub-sampled image."""

    def total(self, schedule: float, *, lambda_inv: float = 2.0) -> torch.Tensor:
        """Return L_blind + s (L_self + lambda L_inv), s = `schedule` growing from 0 to 1 in training."""
        return self.blind + schedule * (self.self_ + lambda_inv * self.inv)


def blind_loss(
    network: nn.Module, x: torch.Tensor, *, stride: int = 5, permutation: torch.Tensor | None = None
) -> torch.Tensor:
    """Return L_blind = |B_k(f_M(S_k x)) - x|.

    B_k only moves pixels, so the mean is taken before it: |f_M(S_k x) - S_k x|, the same number.

    Args:
        network: called as `network(x, blind=True)`.
        x: (N, 3, H, W), H and W divisible by `stride`.
        stride: k, the distance at which noise is taken to be independent.
        permutation: makes S_k SDAP's random sub-samples generation; see `permuted_subsamples`.
    """
    split = space_to_batch(x, stride) if permutation is None else permuted_subsamples(x, permutation)
    return _mean_absolute(network(split, blind=True), split)


def self_loss(denoised: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return L_self = |f(x) - x| from `denoised` = f(x)."""
    return _mean_absolute(denoised, x)


def invariance_loss(network: nn.Module, denoised: torch.Tensor, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return L_inv = |RS(f(x)) - stopgrad f_M(RS(x))|, both under the same mask.

    Args:
        network: called as `network(x, blind=True)`; no gradient goes through this call.
        denoised: f(x), (N, 3, H, W); the gradient flows through it.
        x: (N, 3, H, W).
        mask: see `random_subsample`.
    """
    with torch.no_grad():
        target = network(random_subsample(x, mask), blind=True)
    return _mean_absolute(random_subsample(denoised, mask), target)


def sdap_loss(network: nn.Module, x: torch.Tensor, permutation: torch.Tensor) -> torch.Tensor:
    """Return SDAP's cyclic sample-difference loss: the mean over j of |f_M(s_j) - s_(j+1)|.

    s_1 ... s_(k²) are the random sub-images of x, and the last one teaches with the first. The authors' code takes
    the sum over j instead of the mean: a constant factor, which Adam does not see.

    Args:
        network: called as `network(x, blind=True)`; SDAP's is a blind-spot network.
        x: (N, 3, H, W).
        permutation: see `permuted_subsamples`.
    """
    split = permuted_subsamples(x, permutation)
    # The number of the sub-image is the slowest part of the batch axis: N further on is the next one.
    return _mean_absolute(network(split, blind=True), split.roll(-x.shape[0], dims=0))


def cbsn_losses(
    network: nn.Module,
    x: torch.Tensor,
    mask: torch.Tensor,
    *,
    blind_stride: int = 5,
    permutation: torch.Tensor | None = None,
) -> CBSNLosses:
    """Return all three losses of a batch.

    Args:
        network: a `CBSN`, or anything called as `network(x, blind=...)`.
        x: (N, 3, H, W), normalised; H and W divisible by `blind_stride` and by the cell of the mask.
        mask: (N, H / 2, W / 2), integers in [0, 4): the random sub-sampler's choice.
        blind_stride: k of L_blind.
        permutation: as for `blind_loss`; None for the lattice.

    Raises:
        UsageError: the sizes do not divide.
    """
    denoised = network(x, blind=False)
    return CBSNLosses(
        blind=blind_loss(network, x, stride=blind_stride, permutation=permutation),
        self_=self_loss(denoised, x),
        inv=invariance_loss(network, denoised, x, mask),
    )


def _mean_absolute(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Return the mean of |a - b|."""
    return (a - b).abs().mean()
