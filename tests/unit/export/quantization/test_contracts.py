"""Each rule of a scheme's contract: a good graph in which one thing is broken breaks that rule, and no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from broken_qdq import BROKEN, dead_channel_graph, encoded, image_skip_quantized, student_graph
from graphs import branched_graph, shuffling_graph
from onnx import helper

from edgedenoise.bundles.manifest import Encoding
from edgedenoise.calibration.schemes import SCHEMES, scheme_named
from edgedenoise.errors import ExportError
from edgedenoise.exporting.onnx.graph import lint
from edgedenoise.exporting.quantization.contracts import RULES, broken_rules, check_encoded, lint_encoded

if TYPE_CHECKING:
    from collections.abc import Callable

    import onnx
    from broken_qdq import Spoil

EACH_SCHEME = pytest.mark.parametrize("scheme", [s.name for s in SCHEMES])


GRAPHS = (branched_graph, shuffling_graph, student_graph, dead_channel_graph)


@pytest.mark.parametrize(
    ("scheme", "spoil", "rule"), BROKEN, ids=[f"{rule}-{scheme}-{spoil.__name__}" for scheme, spoil, rule in BROKEN]
)
def test_what_is_broken_is_named_and_nothing_else(scheme: str, spoil: Spoil, rule: str) -> None:
    model = encoded(scheme)
    assert broken_rules(model, scheme_named(scheme)) == []
    spoil(model)
    found = broken_rules(model, scheme_named(scheme))
    assert {broken.rule for broken in found} == {rule}, found


@EACH_SCHEME
def test_an_image_that_is_added_in_8_bits_is_named(scheme: str) -> None:
    model = encoded(scheme, student_graph)
    image_skip_quantized(model)
    assert {broken.rule for broken in broken_rules(model, scheme_named(scheme))} == {"image-skip-float"}


def test_every_rule_has_a_graph_that_breaks_it() -> None:
    assert {rule for _, _, rule in BROKEN} | {"image-skip-float"} == {rule.name for rule in RULES}
    assert all(rule.why for rule in RULES)


@EACH_SCHEME
@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.__name__)
def test_what_is_encoded_keeps_its_contract(scheme: str, graph: Callable[[], onnx.ModelProto]) -> None:
    assert broken_rules(encoded(scheme, graph), scheme_named(scheme)) == []


@EACH_SCHEME
def test_layers_that_are_kept_float_keep_the_contract(scheme: str) -> None:
    for layer in ("head", "left", "summed", "joined", "denoised"):
        assert broken_rules(encoded(scheme, excluded_layers=(layer,)), scheme_named(scheme)) == [], layer
    everything = tuple(node.output[0] for node in branched_graph().graph.node)
    assert broken_rules(encoded(scheme, excluded_layers=everything), scheme_named(scheme)) == []


@pytest.mark.parametrize(
    ("made_for", "held_to", "rules"),
    [
        # Unsigned activations on TensorRT: taken by its parser, and half the range is lost.
        ("u8s7", "s8s8", {"zero-point-type", "weight-form", "sum-placement", "concat-placement"}),
        ("u8s8", "coreml", {"zero-point-type"}),
        ("u8s8", "u8s7", {"weight-range"}),
        ("s8s8", "coreml", {"weight-form", "sum-placement"}),
    ],
)
def test_a_graph_that_was_made_for_another_device_is_noticed(made_for: str, held_to: str, rules: set[str]) -> None:
    found = broken_rules(encoded(made_for), scheme_named(held_to))
    assert {broken.rule for broken in found} == rules


def test_lint_holds_a_graph_to_the_encoding_that_the_bundle_names() -> None:
    model = encoded("u8s8")
    claimed = Encoding("u8s7", "u8", "s8", 7)
    assert lint(model, quantized=True) == []
    assert lint_encoded(model, _as(claimed, "u8s8")) == []
    assert any("[weight-range]" in problem for problem in lint_encoded(model, claimed))
    with pytest.raises(ExportError, match=r"7-bit weights end at 63 \[weight-range\]"):
        check_encoded(model, claimed)
    # What only a newer version encodes is not judged by this one's rules.
    assert lint_encoded(model, _as(claimed, "s4s4")) == []


def _as(encoding: Encoding, name: str) -> Encoding:
    return Encoding(name, encoding.activations, encoding.weights, encoding.weight_bits)


@pytest.mark.parametrize("operator", ["QLinearConv", "DynamicQuantizeLinear"])
def test_operators_on_integers_are_refused(operator: str) -> None:
    model = encoded("s8s8")
    model.graph.node.append(helper.make_node(operator, ["image.quantized"], ["integers"]))
    encoding = Encoding("s8s8", "s8", "s8", 8)
    assert any(operator in problem for problem in lint_encoded(model, encoding))


def test_a_graph_without_interface_is_told_so_and_not_followed() -> None:
    model = encoded("s8s8")
    del model.graph.output[:]
    problems = lint_encoded(model, Encoding("s8s8", "s8", "s8", 8))
    assert any("only output" in problem for problem in problems)
