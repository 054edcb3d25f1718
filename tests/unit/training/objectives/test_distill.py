"""Students learn from a C-BSN's answers: which answers, to what, and that nothing but the student learns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from resuming import Stopped, check_same_end, stop
from torch import nn

import edgedenoise
from edgedenoise.errors import DatasetError, TrainingError, UsageError
from edgedenoise.imaging.files import Image, from_unit, read_image, write_image
from edgedenoise.training.checkpoint import LAST, load_network, read_checkpoint, save_checkpoint
from edgedenoise.training.config.config import DistillConfig
from edgedenoise.training.data.patches import unit_planes
from edgedenoise.training.initial_weights import initial_network
from edgedenoise.training.networks.families import build_network, network_spec
from edgedenoise.training.objectives import distill
from edgedenoise.training.objectives.distill import DistillObjective
from edgedenoise.training.objectives.objective import HELD_OUT_CROPS
from edgedenoise.training.objectives.reconstruction import CHARBONNIER_EPSILON
from edgedenoise.training.objectives.sampling import from_permuted, permuted_subsamples

if TYPE_CHECKING:
    from pathlib import Path

PATCH, STRIDE = 20, 5
FLOOR = CHARBONNIER_EPSILON
"""The Charbonnier loss of equal images."""


@pytest.fixture
def teacher(config, tmp_path) -> Path:
    """A C-BSN that was not trained: it answers a local mean, and not the same thing turned or blind."""
    folder = tmp_path / "teacher"
    folder.mkdir()
    save_checkpoint(folder / LAST, config=config, step=0, network=initial_network(config))
    return folder


@pytest.fixture
def noisy(tmp_path) -> Path:
    """Four images, each of its own brightness and contrast."""
    random = np.random.default_rng(0)
    folder = tmp_path / "noisy"
    for index in range(4):
        y, x = np.mgrid[:40, :48]
        smooth = 0.3 + 0.1 * index + (0.05 + 0.03 * index) * np.sin(x / 5 + y / 9)[..., None] * np.ones(3)
        write_image(Image(from_unit(smooth + random.normal(0, 0.08, smooth.shape), np.uint8)), folder / f"{index}.png")
    return folder


@pytest.fixture
def student(noisy, teacher, tmp_path) -> DistillConfig:
    """A few steps of the smallest student."""
    return DistillConfig(
        network="edge-tiny",
        precision="fp32",
        data=str(noisy),
        teacher=str(teacher),
        out=str(tmp_path / "student"),
        steps=6,
        patch=PATCH,
        batch=3,
        blind_stride=STRIDE,
        data_check="off",  # the images are too few to be judged
        held_out=0,
        checkpoint_every=2,
        preview_every=3,
        val_every=3,
        log_every=2,
        device="cpu",
    )


@pytest.fixture
def plain(student) -> DistillConfig:
    """The student sees the image as it is, and one answer of the teacher."""
    return with_(student, views=1, blind_views=0, recharge=0, noise_jitter=0, darken=1)


def with_(config: DistillConfig, **values: Any) -> DistillConfig:
    return config.with_overrides(f"{key}={value}" for key, value in values.items())


class Told(nn.Module):
    """A student that answers what it is told, and remembers what it was shown."""

    def __init__(self, answer: torch.Tensor | None = None) -> None:
        super().__init__()
        self.zero = nn.Parameter(torch.zeros(()))
        self.answer = answer
        self.seen = torch.zeros(0)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen = image
        return (image if self.answer is None else self.answer) + self.zero


def crops(config: DistillConfig, step: int = 0, count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """The first patches of a step, and their images' mean and deviation, from the files."""
    found, numbers = [], []
    objective = DistillObjective(config)
    for sample in range(count):
        index, crop = objective.photos.cut(distill.draw(config.seed, distill.Stream.CROP, step, sample), PATCH)
        whole = unit_planes(read_image(objective.photos.paths[index]).pixels).astype(np.float64)
        found.append(unit_planes(crop))
        numbers.append(np.stack([whole.mean(axis=(1, 2)), whole.std(axis=(1, 2))]))
    return torch.from_numpy(np.stack(found)), torch.from_numpy(np.stack(numbers).astype(np.float32))


def turned(x: torch.Tensor, turn: int) -> torch.Tensor:
    """The eight flips and turns of a square, written out another way."""
    for _ in range(turn % 4):
        x = x.transpose(2, 3).flip(2)
    return x.flip(3) if turn >= 4 else x


@torch.no_grad()
def answers(teacher: Path, patches, numbers, *, permutation=None) -> dict[int, torch.Tensor]:
    """What the teacher answers to patches in each of the eight flips and turns, turned back."""
    network, _ = load_network(teacher)
    mean, std = (numbers[:, i, :, None, None] for i in (0, 1))
    back = {0: 0, 1: 3, 2: 2, 3: 1, 4: 4, 5: 5, 6: 6, 7: 7}  # a flip undoes itself, whatever the turn before it
    found = {}
    for turn in range(8):
        x = turned((patches - mean) / std, turn)
        if permutation is None:
            answer = network(x)
        else:
            answer = from_permuted(network(permuted_subsamples(x, permutation), blind=True), permutation)
        found[turn] = turned((answer * std + mean).clamp(0, 1), back[turn])
    return found


def targets_of(objective: DistillObjective, batch, step: int, monkeypatch) -> list[torch.Tensor]:
    """The targets that the losses of a step are taken to."""
    targets = []

    def seen(config, answer, target):
        targets.append(target)
        return real(config, answer, target)

    real = distill.student_losses
    with monkeypatch.context() as patched:
        patched.setattr(distill, "student_losses", seen)
        objective.losses(Told(), batch, step)
    return targets


def closest(target: torch.Tensor, among: dict[int, torch.Tensor]) -> tuple[int, float]:
    """Which of the answers a target is, and how far it is from it."""
    return min(((turn, (target - answer).abs().max().item()) for turn, answer in among.items()), key=lambda it: it[1])


def test_the_target_is_the_teachers_non_blind_answer(plain, teacher, monkeypatch):
    objective = DistillObjective(plain)
    turns = set()
    for step in range(12):
        batch = objective.batch(step, range(3))
        patches, numbers = crops(plain, step)
        assert torch.equal(batch[0], patches)
        (target,) = targets_of(objective, batch, step, monkeypatch)
        turn, distance = closest(target, answers(teacher, patches, numbers))
        assert distance < 1e-5
        turns.add(turn)
        network = Told(target)
        losses = objective.losses(network, batch, step)
        assert losses.parts["reconstruction"].item() == pytest.approx(FLOOR, rel=1e-4), "nothing better can be learnt"
        assert losses.parts["laplacian"].item() < 1e-6
        assert torch.allclose(network.seen, patches, atol=1e-6), "and it saw the image"
        assert objective.losses(Told(patches), batch, step).total > 3 * FLOOR
    assert len(turns) > 4, "each step turns another way"


def test_views_are_non_blind_and_then_blind_each_of_another_turn(plain, teacher, monkeypatch):
    config = with_(plain, views=2, blind_views=2)
    objective = DistillObjective(config)
    batch = objective.batch(1, range(3))
    patches, numbers, permutation = batch[0], batch[1], batch[4]
    found = targets_of(objective, batch, 1, monkeypatch)
    open_, blind = (answers(teacher, patches, numbers, permutation=p) for p in (None, permutation))
    turns = []
    for view, target in enumerate(found):
        right, wrong = (blind, open_) if view >= 2 else (open_, blind)
        turn, distance = closest(target, right)
        assert distance < 1e-5
        assert closest(target, wrong)[1] > 1e-3
        turns.append(turn)
    assert len(set(turns)) == 4


def test_a_blind_answer_does_not_know_the_pixel_below_it(plain):
    objective = DistillObjective(plain)
    batch = objective.batch(0, range(1))
    patches, numbers, permutation = batch[0], batch[1], batch[4]
    other = patches.clone()
    other[..., 7, 9] = 1 - other[..., 7, 9]
    one, another = (objective._answer(x, numbers, permutation) for x in (patches, other))
    assert torch.allclose(one[..., 7, 9], another[..., 7, 9], atol=1e-6)
    assert not torch.allclose(one, another, atol=1e-4)
    assert not torch.allclose(*(objective._answer(x, numbers, None)[..., 7, 9] for x in (patches, other)), atol=1e-4)


def test_statistics_are_those_of_the_photograph_and_not_of_the_patch(plain):
    batch = DistillObjective(plain).batch(0, range(3))
    patches, numbers = crops(plain)
    assert torch.allclose(batch[1], numbers, atol=1e-6)
    assert not torch.allclose(batch[1][:, 0], patches.mean(dim=(2, 3)), atol=1e-3)


def test_recharging_puts_pixels_of_one_target_back(plain, monkeypatch):
    def changed(share: float, step: int) -> list[float]:
        """Part of the pixels of each target that are the noisy image's."""
        objective = DistillObjective(with_(plain, views=2, blind_views=1, recharge=share))
        batch = objective.batch(step, range(3))
        found = targets_of(objective, batch, step, monkeypatch)
        return [(target == batch[0]).all(dim=1).float().mean().item() for target in found]

    chosen = set()
    for step in range(8):
        assert max(changed(0, step)) < 0.01
        shares = changed(1, step)
        assert sorted(share > 0.99 for share in shares) == [False, False, True], (
            "all of one of them, none of the others"
        )
        chosen.add(shares.index(max(shares)))
    assert chosen == {0, 1, 2}, "another one at every step"
    shares = sorted(changed(0.3, 0))
    assert shares[1] < 0.01
    assert shares[2] == pytest.approx(0.3, abs=0.05)


def test_the_student_sees_more_or_less_of_what_the_teacher_calls_noise(plain, monkeypatch):
    config = with_(plain, views=2, blind_views=1, noise_jitter=0.5)
    objective = DistillObjective(config)
    scales = []
    for step in range(6):
        batch = objective.batch(step, range(3))
        mean = torch.stack(targets_of(objective, batch, step, monkeypatch)[:2]).mean(dim=0)
        network = Told()
        objective.losses(network, batch, step)
        inside = (network.seen > 0) & (network.seen < 1)  # where nothing is clipped
        noise, seen = inside * (batch[0] - mean), inside * (network.seen - mean)
        scale = (seen * noise).sum(dim=(1, 2, 3)) / noise.square().sum(dim=(1, 2, 3))
        assert torch.allclose(seen, scale[:, None, None, None] * noise, atol=1e-5), "more of the same, and no other"
        scales += scale.tolist()
    assert 0.49 < min(scales) < 0.75
    assert 1.25 < max(scales) < 1.51


def test_darker_patches_have_darker_targets(plain, monkeypatch):
    bright, dark = DistillObjective(plain), DistillObjective(with_(plain, darken=0.3))
    gains = []
    for step in range(6):
        one, other = bright.batch(step, range(3)), dark.batch(step, range(3))
        network = Told()
        dark.losses(network, other, step)
        gain = network.seen.mean(dim=(1, 2, 3), keepdim=True) / one[0].mean(dim=(1, 2, 3), keepdim=True)
        assert torch.allclose(network.seen, gain * one[0], atol=1e-5)
        (wanted,), (found,) = targets_of(bright, one, step, monkeypatch), targets_of(dark, other, step, monkeypatch)
        assert torch.allclose(found, gain * wanted, atol=1e-5)
        gains += gain.flatten().tolist()
    assert 0.3 <= min(gains) < 0.5
    assert 0.8 < max(gains) <= 1.0001


@pytest.mark.parametrize("turn", range(8))
def test_turns_are_undone_exactly(turn):
    x = torch.rand(2, 3, 6, 6)
    assert torch.equal(distill._unturned(distill._turned(x, turn), turn), x)
    assert torch.equal(distill._turned(x, turn), torch.flip(torch.rot90(x, turn % 4, (2, 3)), [3] * (turn >= 4)))


def test_the_eight_turns_are_eight():
    x = torch.rand(1, 3, 6, 6)
    assert len({distill._turned(x, turn).numpy().tobytes() for turn in range(8)}) == 8


def test_processes_that_share_a_step_take_the_same_views(student):
    """The loss of a step is the mean of its parts, however it is split."""
    objective, network = DistillObjective(student), Told()
    for step in range(3):
        whole, *parts = (
            objective.losses(network, objective.batch(step, samples), step).total.item()
            for samples in (range(4), [0, 1], [2, 3])
        )
        assert whole == pytest.approx(sum(parts) / 2, rel=1e-5)


def test_only_the_student_learns(student, teacher):
    objective = DistillObjective(student)
    before = {name: value.clone() for name, value in objective._teacher.state_dict().items()}
    network = build_network(network_spec("edge-tiny"), seed=0)
    objective.losses(network, objective.batch(0, range(3)), 0).total.backward()
    assert network.tail.weight.grad.any()
    assert all(parameter.grad is None for parameter in objective._teacher.parameters())
    assert not any(parameter.requires_grad for parameter in objective._teacher.parameters())
    assert not objective._teacher.training
    edgedenoise.train(student)
    after = load_network(teacher)[0].state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_teacher_is_what_its_run_is_known_by(config, student, tmp_path):
    """That is, with the running means as its weights."""
    trained = edgedenoise.train(config.with_overrides([f"out={tmp_path / 'trained'}", "learning_rate=1e-2"])).run
    means = read_checkpoint(trained / LAST).mean
    objective = DistillObjective(with_(student, teacher=trained))
    for name, value in objective._teacher.named_parameters():
        assert torch.equal(value, means[name])


def test_a_student_is_no_teacher(student, tmp_path):
    folder = tmp_path / "no-teacher"
    folder.mkdir()
    save_checkpoint(folder / LAST, config=student, step=0, network=build_network(network_spec("edge-tiny"), seed=0))
    with pytest.raises(UsageError, match=r"no-teacher' has no blind path: expected a C-BSN, got edge-tiny"):
        edgedenoise.train(with_(student, teacher=folder))
    assert not (tmp_path / "student").exists()


def test_a_teacher_that_only_learnt_blind_is_refused(config, student, tmp_path):
    """Half of the targets are non-blind answers, which SDAP does not teach; it is not exported either."""
    folder = tmp_path / "blind"
    folder.mkdir()
    config = config.with_overrides(["objective=sdap"])
    save_checkpoint(folder / LAST, config=config, step=0, network=initial_network(config))
    with pytest.raises(UsageError, match=r"blind' was trained with objective = 'sdap'") as caught:
        DistillObjective(with_(student, teacher=folder))
    assert "--objective cbsn --init" in caught.value.hint


def test_a_teacher_that_is_no_run_is_named(student, tmp_path):
    with pytest.raises(TrainingError, match="nowhere is no training run"):
        edgedenoise.train(with_(student, teacher=tmp_path / "nowhere"))
    assert not (tmp_path / "student").exists()


@pytest.fixture
def truth(noisy, tmp_path) -> Path:
    """The 'truth' of every image: its own pixels, turned into others one by one, so that pairs can be told."""
    for path in noisy.iterdir():
        write_image(Image(255 - read_image(path).pixels), tmp_path / "truth" / path.name)
    return tmp_path / "truth"


def test_the_truth_is_the_same_crop_of_its_own_photograph(plain, truth, monkeypatch):
    objective = DistillObjective(with_(plain, clean=truth))
    for step in range(4):
        batch = objective.batch(step, range(3))
        assert len(batch) == 6
        assert torch.allclose(batch[5], 1 - batch[0], atol=1e-6)
        targets = targets_of(objective, batch, step, monkeypatch)
        assert len(targets) == 2
        assert torch.equal(targets[1], batch[5])


def test_the_truth_of_a_darker_patch_is_darker(plain, truth, monkeypatch):
    objective = DistillObjective(with_(plain, clean=truth, darken=0.3))
    batch = objective.batch(0, range(3))
    target = targets_of(objective, batch, 0, monkeypatch)[-1]
    assert torch.allclose(target, batch[2][:, 0, None, None, None] * batch[5])
    assert not torch.allclose(target, batch[5], atol=0.01)


def test_truth_may_have_another_ending_and_must_not_be_missing_or_of_another_size(student, truth):
    (truth / "2.png").rename(truth / "2.tmp")
    with pytest.raises(DatasetError, match=r"1 of 4 images .* got none for 2\.png"):
        DistillObjective(with_(student, clean=truth))
    (truth / "2.tmp").rename(truth / "2.png")
    write_image(Image(np.zeros((40, 47, 3), np.uint8)), truth / "2.png")
    with pytest.raises(DatasetError, match=r"2\.png and its ground truth .* differ in size: expected 40x48, got 40x47"):
        edgedenoise.train(with_(student, clean=truth))
    (truth / "2.png").unlink()
    write_image(Image(np.zeros((40, 48, 3), np.uint8)), truth / "2.tiff")
    assert DistillObjective(with_(student, clean=truth)).batch(0, range(1))[5].shape == (1, 3, PATCH, PATCH)


@torch.no_grad()
def test_held_out_photographs_are_judged_by_the_teacher_or_by_the_truth(student, truth):
    by_teacher = DistillObjective(with_(student, held_out=2))
    by_truth = DistillObjective(with_(student, held_out=2, clean=truth))
    network = Told()
    assert by_teacher.judge(network) == by_teacher.judge(network)
    # The identity's error against the truth, which is 1 - itself, is |1 - 2x| (and the Laplacian's share).
    assert by_truth.judge(network) > 3 * by_teacher.judge(network) > 3 * FLOOR
    batched = DistillObjective(with_(student, held_out=2, batch=5))
    assert batched.judge(network) == pytest.approx(by_teacher.judge(network), rel=1e-5)
    assert HELD_OUT_CROPS % 5, "of which the last batch is a part"
    nobody = DistillObjective(student)
    assert nobody.judge(network) is None
    assert not nobody.judges


def test_a_batch_is_a_function_of_seed_step_and_sample(student, truth):
    student = with_(student, clean=truth)
    together = DistillObjective(student).batch(3, range(4))
    for samples in ([2], [3, 0]):
        for found, wanted in zip(DistillObjective(student).batch(3, samples), together, strict=True):
            assert torch.equal(found, wanted[samples])
    others = DistillObjective(student).batch(4, range(4)), DistillObjective(with_(student, seed=1)).batch(3, range(4))
    for other in others:
        assert not any(torch.equal(a, b) for a, b in zip(other, together, strict=True))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(student, truth, tmp_path, precision):
    student = with_(student, held_out=1, clean=truth, precision=precision)
    torch.manual_seed(1)
    whole = edgedenoise.train(with_(student, out=tmp_path / "whole"))
    torch.manual_seed(2)
    with pytest.raises(Stopped):
        edgedenoise.train(student, progress=stop)
    assert read_checkpoint(tmp_path / "student" / LAST).step == 4
    resumed = edgedenoise.train(student, resume=True)
    check_same_end(whole.run, resumed.run)
    assert read_checkpoint(whole.run / LAST).network["tail.weight"].any(), "something was learnt"
    assert resumed.losses == whole.losses
    assert set(whole.losses) == {"total", "reconstruction", "laplacian"}


def test_a_student_comes_closer_to_its_teacher(student):
    config = with_(student, loss="psnr", laplacian=0, steps=80, patch=40, batch=2, clip_norm=10, ema_decay=0.8)
    config = with_(config, held_out=1, noise_jitter=0, darken=1, schedule="constant", val_every=20, preview_every=100)
    before = DistillObjective(config).judge(build_network(network_spec("edge-tiny"), seed=0))
    result = edgedenoise.train(config)
    assert result.best < before - 0.5, f"PSNR {-before:.2f} -> {-result.best:.2f} dB"
