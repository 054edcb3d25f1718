"""Images are taken apart without losing or changing a pixel."""

from __future__ import annotations

import pytest
import torch

from edgedenoise.errors import UsageError
from edgedenoise.training.objectives.sampling import (
    batch_to_space,
    from_permuted,
    permuted_subsamples,
    random_subsample,
    space_to_batch,
)


def orders(n, rows, columns, k, seed=0):
    """A random order of every cell's pixels."""
    random = torch.rand(n, rows, columns, k * k, generator=torch.Generator().manual_seed(seed))
    return random.argsort(dim=-1)


def test_space_to_batch_is_the_authors(reference):
    split = space_to_batch(torch.from_numpy(reference["image"]), 5)
    picked = torch.from_numpy(reference["split_picked"]).long()
    assert torch.equal(split[picked], torch.from_numpy(reference["split"]))


def test_random_subsample_is_the_authors(reference):
    kept = random_subsample(torch.from_numpy(reference["image"]), torch.from_numpy(reference["mask"]))
    assert torch.equal(kept, torch.from_numpy(reference["subsample"]))


def test_the_offset_in_the_block_is_the_slowest_part_of_the_batch():
    x = torch.arange(2 * 1 * 4 * 6).reshape(2, 1, 4, 6)
    split = space_to_batch(x, 2)
    for row in range(2):
        for column in range(2):
            for n in range(2):
                assert torch.equal(split[(row * 2 + column) * 2 + n], x[n, :, row::2, column::2])


@pytest.mark.parametrize("block", [1, 2, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_batch_to_space_undoes_space_to_batch(block, layout):
    x = torch.randn(3, 4, 30, 60).contiguous(memory_format=layout)
    assert torch.equal(batch_to_space(space_to_batch(x, block), block), x)


def test_every_kept_pixel_comes_from_its_own_cell_and_gets_the_gradient():
    x = torch.randn(2, 3, 6, 9, requires_grad=True)
    mask = torch.randint(0, 9, (2, 2, 3))
    kept = random_subsample(x, mask)
    kept.sum().backward()
    assert int(x.grad.sum()) == kept.numel()
    for n in range(2):
        for i in range(2):
            for j in range(3):
                row, column = 3 * i + int(mask[n, i, j]) // 3, 3 * j + int(mask[n, i, j]) % 3
                assert torch.equal(kept[n, :, i, j], x[n, :, row, column])
                assert x.grad[n, :, row, column].all()


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(UsageError, match="31x30 image cannot be split by 5"):
        space_to_batch(torch.zeros(1, 3, 31, 30), 5)
    with pytest.raises(UsageError, match="no whole number of images"):
        batch_to_space(torch.zeros(10, 3, 4, 4), 3)
    for shape in ((1, 3, 4), (2, 4, 4), (1, 4, 2), (1, 0, 0)):
        with pytest.raises(UsageError, match="does not fit"):
            random_subsample(torch.zeros(1, 3, 8, 8), torch.zeros(shape, dtype=torch.int64))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_permutation_loses_no_pixel_and_sub_images_invert_exactly(k, layout):
    x = torch.arange(2 * 3 * 30 * 60).reshape(2, 3, 30, 60).contiguous(memory_format=layout)
    order = orders(2, 30 // k, 60 // k, k)
    split = permuted_subsamples(x, order)
    assert split.shape == (k * k * 2, 3, 30 // k, 60 // k)
    assert torch.equal(split.flatten().sort().values, x.flatten().sort().values), "every pixel once"
    assert torch.equal(from_permuted(split, order), x)


def test_every_permuted_pixel_stays_in_its_cell_and_its_channels_together():
    x = torch.randn(2, 3, 10, 15)
    order = orders(2, 2, 3, 5)
    split = permuted_subsamples(x, order)
    for j in (0, 7, 24):
        for n in range(2):
            for row in range(2):
                for column in range(3):
                    index = int(order[n, row, column, j])
                    kept = x[n, :, row * 5 + index // 5, column * 5 + index % 5]
                    assert torch.equal(split[j * 2 + n, :, row, column], kept)


def test_the_ordered_permutation_is_space_to_batch():
    x = torch.randn(2, 3, 20, 30)
    in_order = torch.arange(25).expand(2, 4, 6, 25)
    assert torch.equal(permuted_subsamples(x, in_order), space_to_batch(x, 5))


@pytest.mark.parametrize("shape", [(2, 4, 6, 24), (1, 4, 6, 25), (2, 4, 5, 25), (2, 4, 6, 0)])
def test_a_permutation_that_does_not_fit_is_refused(shape):
    with pytest.raises(UsageError, match="does not fit"):
        permuted_subsamples(torch.zeros(2, 3, 20, 30), torch.zeros(shape, dtype=torch.int64))
