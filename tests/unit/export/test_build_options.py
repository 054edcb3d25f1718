"""What a builder is asked for is checked before anything is built, and every message lists what is accepted."""

from __future__ import annotations

import msgspec
import pytest

from edgedenoise.bundles.manifest import InputShapes
from edgedenoise.errors import UsageError
from edgedenoise.exporting.build_options import backend_options, input_shapes
from edgedenoise.imaging.tiling import Tiling
from edgedenoise.runtimes.job import BuildOptions

TILING = Tiling(halo_px=17, multiple_of=4)  # a margin of 20, so at least 44 pixels


class Own(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    timeout_s: int = 30
    hardware_compatible: bool = False


def test_shapes_are_what_was_asked_for() -> None:
    assert input_shapes(BuildOptions(), TILING) == InputShapes("fixed", [512])
    assert input_shapes(BuildOptions(tile=44), TILING) == InputShapes("fixed", [44])
    assert input_shapes(BuildOptions(tiles=(512, 128, 512)), TILING) == InputShapes("enumerated", [128, 512])
    assert input_shapes(BuildOptions(tile_range=(44, 256, 512)), TILING) == InputShapes("ranged", [44, 256, 512])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (BuildOptions(tile=40), "expected a multiple of 4, at least 44 .* got 40 pixels"),
        (BuildOptions(tiles=(128, 510)), "got 510 pixels"),
        (
            BuildOptions(tile_range=(256, 128, 512)),
            "expected LEAST:BEST:MOST, none larger than the next, got 256:128:512",
        ),
        (BuildOptions(tiles=(128,), tile_range=(64, 128, 256)), "expected one of --tile, --tiles, --tile-range"),
    ],
)
def test_shapes_that_do_not_fit_the_network_are_refused(options: BuildOptions, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        input_shapes(options, TILING)


def test_a_backends_own_options_are_read_from_text() -> None:
    given = BuildOptions(more={"timeout_s": "90", "hardware_compatible": "true"})
    assert backend_options(Own, given, "abacus") == Own(90, True)
    assert backend_options(Own, BuildOptions(), "abacus") == Own()


@pytest.mark.parametrize("more", [{"timeout": "90"}, {"timeout_s": "soon"}], ids=["unknown", "wrong kind"])
def test_an_option_that_is_not_accepted_is_told_with_those_that_are(more: dict[str, str]) -> None:
    accepted = r"expected timeout_s \(default 30\), hardware_compatible \(default false\)"
    with pytest.raises(UsageError, match=f"--option for abacus .*{accepted}"):
        backend_options(Own, BuildOptions(more=more), "abacus")
