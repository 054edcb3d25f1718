"""An exported graph is held to what a user could see: rounding passes, a wrong graph is refused with the place."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install 'edgedenoise[export]'")

from torch import nn

from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.parity import PARITY_SIZES, check_parity
from edgedenoise.exporting.onnx.tracing import graph_answers, module_answers, trace
from edgedenoise.imaging.normalize import UNIT, WHOLE_IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Answer = Callable[[NDArray[np.float32]], NDArray[Any]]


class Cancelling(nn.Module):
    """A network whose large terms cancel: what training for long makes of weights, much exaggerated."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 32, 3, padding=1), nn.Conv2d(32, 3, 3, padding=1)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            half = torch.randn(16, 3, 3, 3, generator=generator) * 300
            self.first.weight.copy_(torch.cat([half, half + 0.01 * torch.randn(half.shape, generator=generator)]))
            mixed = torch.randn(3, 16, 3, 3, generator=generator)
            self.second.weight.copy_(torch.cat([mixed, -mixed], dim=1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(image)))


@pytest.fixture(scope="module")
def answers() -> tuple[Answer, Answer, Answer]:
    """The cancelling network in float32, in float64, and as its exported graph."""
    module = Cancelling().eval()
    return (
        module_answers(module, torch.float32),
        module_answers(copy.deepcopy(module).double(), torch.float64),
        graph_answers(trace(module).model),
    )


def test_rounding_of_a_trained_network_is_no_fault_of_the_export(answers: tuple[Answer, Answer, Answer]) -> None:
    parity = check_parity(*answers, UNIT)
    assert parity.max_relative_error > 1e-5, "a bound on the relative error would refuse this network"
    assert parity.sizes == list(PARITY_SIZES)


def test_float64_is_asked_only_where_float32_leaves_a_doubt() -> None:
    def network(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return x * np.float32(0.5)

    def never(_: NDArray[np.float32]) -> NDArray[np.float32]:
        raise AssertionError

    parity = check_parity(network, never, lambda x: network(x) + np.float32(1e-6), WHOLE_IMAGE)
    assert parity.max_error_lsb == pytest.approx(1e-6 * 255 * np.sqrt(1 / 12), rel=0.1)


@pytest.mark.parametrize("error", [1e-3, np.nan, np.inf])
def test_a_wrong_graph_is_refused_and_the_worst_place_is_named(
    answers: tuple[Answer, Answer, Answer], error: float
) -> None:
    def network(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return x * np.float32(0.5)

    def wrong(x: NDArray[np.float32]) -> NDArray[np.float32]:
        answer = network(x)
        if x.shape[2] == 61:  # one size only
            answer[0, 1, 20, 30] += error
        return answer

    with pytest.raises(ExportError, match=r"at 61x47 pixels, channel 1, row 20, column 30: expected 0\.\d+ "):
        check_parity(network, lambda x: x.astype(np.float64) * 0.5, wrong, UNIT)
    float32, exact, graph = answers
    with pytest.raises(ExportError, match="PyTorch itself differs by"):
        check_parity(float32, exact, lambda x: graph(x) * np.float32(2), UNIT)


def test_an_answer_of_another_shape_is_refused() -> None:
    with pytest.raises(ExportError, match=r"answers \(1, 3, 63, 64\) to \(1, 3, 64, 64\); expected \(1, 3, 64, 64\)"):
        check_parity(lambda x: x, lambda x: x, lambda x: x[:, :, 1:], UNIT)
