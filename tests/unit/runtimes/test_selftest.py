"""A variant proves itself on the machine where it is first loaded, and what passed is remembered."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from manifests import rewrite_manifest

import edgedenoise
from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.manifest import Variant
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.denoiser import load
from edgedenoise.errors import BundleError, IntegrityError, ParityError, UsageError
from edgedenoise.exporting import verify as verify_module
from edgedenoise.runtimes import selftest
from edgedenoise.runtimes.opening import open_variant
from edgedenoise.runtimes.selftest import ANSWER_FILE, FLOAT_BOUND_DB, IMAGE_FILE, run_selftest, selftest_pair

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import FlipByte


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the variants whose self-test has run, as it goes on."""
    seen: list[str] = []

    def counted(bundle: Bundle, variant: Variant, session: object) -> object:
        seen.append(variant.name)
        return run_selftest(bundle, variant, session)

    monkeypatch.setattr(selftest, "run_selftest", counted)
    return seen


def change_answer(bundle: Path, by: float) -> None:
    """Make the stored float output another one, with a manifest that agrees."""
    opened = Bundle.open(bundle)
    answer = selftest_pair(opened)[1] + np.float32(by)
    with BundleWriter.edit(opened) as draft:
        np.save(draft.path(ANSWER_FILE), answer)


def test_every_variant_is_as_close_as_it_promises(committed_bundle: Path) -> None:
    bundle = Bundle.open(committed_bundle)
    for variant in bundle.manifest.variants:
        session = open_variant(bundle, variant, selftest=False)
        result = run_selftest(bundle, variant, session)
        session.close()
        assert result.passed, result
        assert result.bound_db == (FLOAT_BOUND_DB if variant.fidelity_db is None else variant.fidelity_db - 1)


def test_verify_runs_every_variant_once(committed_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, used = selftest.run_image, []

    def counted(session: object, *args: object, **options: object) -> object:
        used.append((session, *options.items()))  # kept, so that no two sessions have one id
        return run(session, *args, **options)

    monkeypatch.setattr(selftest, "run_image", counted)
    monkeypatch.setattr(verify_module, "run_image", counted)
    report = edgedenoise.verify(committed_bundle)
    assert report.passed
    assert any(check.reference_psnr_db is not None for check in report.variants)
    # Whole and in tiles on its backend, and whole by the reference execution: each once.
    runs = [(id(session), *how) for session, *how in used]
    assert len(runs) == len(set(runs))


def test_what_has_passed_is_remembered(committed_bundle: Path, runs: list[str], user_cache: Path) -> None:
    load(committed_bundle, precision="fp32").close()
    assert len(list((user_cache / "selftests").iterdir())) == 1
    load(committed_bundle, precision="fp32").close()
    assert runs == ["onnx-fp32"]
    load(committed_bundle, precision="int8").close()
    assert runs == ["onnx-fp32", "onnx-int8-u8s7"]


def test_what_has_changed_is_tested_again(tiny_bundle: Path, runs: list[str]) -> None:
    load(tiny_bundle, precision="fp32").close()
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.write("onnx-fp32/note.txt", b"another file of the variant")
    load(tiny_bundle, precision="fp32").close()
    change_answer(tiny_bundle, by=1e-6)
    load(tiny_bundle, precision="fp32").close()
    assert runs == ["onnx-fp32"] * 3


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_variant_with_another_answer_does_not_load(tiny_bundle: Path, user_cache: Path, precision: str) -> None:
    load(tiny_bundle, precision=precision).close()
    change_answer(tiny_bundle, by=0.02)
    for _ in range(2):  # a failure is not remembered as a success
        with pytest.raises(
            ParityError, match=r"fails its self-test on onnxruntime .* dB to the float output"
        ) as caught:
            load(tiny_bundle, precision=precision)
        assert "edgedenoise verify" in str(caught.value)


def test_an_answer_of_nan_proves_nothing(tiny_bundle: Path) -> None:
    change_answer(tiny_bundle, by=np.nan)
    with pytest.raises(ParityError):
        load(tiny_bundle, precision="fp32")


def test_a_home_that_cannot_be_written_only_costs_the_test_again(
    committed_bundle: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    load(committed_bundle, precision="fp32").close()
    load(committed_bundle, precision="fp32").close()
    assert runs == ["onnx-fp32"] * 2


# ---------------------------------------------------------------- what a record states is tested, not believed


def reseal(bundle: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest as a stranger may: with a valid digest."""
    values = json.loads((bundle / "manifest.json").read_bytes())
    edit(values)
    rewrite_manifest(bundle, **values)


def set_halo(values: dict[str, Any]) -> None:
    values["tiling"]["halo_px"] = 5  # the network needs 8


def set_normalization(values: dict[str, Any]) -> None:
    values["normalization"] = "unit"


def set_fidelity(values: dict[str, Any]) -> None:
    for variant in values["variants"]:
        variant["fidelity_db"] = 0.0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("edit", [set_halo, set_normalization])
def test_another_record_of_the_same_weights_is_tested_again_and_fails(
    tiny_bundle: Path, edit: Callable[[dict[str, Any]], None], precision: str
) -> None:
    load(tiny_bundle, precision=precision).close()  # the sound record has passed, and is remembered
    reseal(tiny_bundle, edit)
    with pytest.raises(ParityError):
        load(tiny_bundle, precision=precision)


def test_a_wrong_halo_shows_in_tiles_even_where_the_answer_was_made_with_it(tiny_bundle: Path) -> None:
    reseal(tiny_bundle, set_halo)
    bundle = Bundle.open(tiny_bundle)
    with open_variant(bundle, bundle.variant("onnx-fp32"), selftest=False) as session:
        answer = run_selftest(bundle, bundle.variant("onnx-fp32"), session).output
    with BundleWriter.edit(bundle) as draft:
        np.save(draft.path(ANSWER_FILE), answer)
    with pytest.raises(ParityError, match="tiles change the output"):
        load(tiny_bundle, precision="fp32")


def test_the_fidelity_that_a_record_states_is_bounded_and_means_nothing_for_float(
    tiny_bundle: Path, nan_model: bytes
) -> None:
    reseal(tiny_bundle, set_fidelity)
    bundle = Bundle.open(tiny_bundle)
    assert {v.precision: selftest._bound_db(v) for v in bundle.manifest.variants} == {"fp32": 80.0, "int8": 15.0}
    reseal(tiny_bundle, lambda values: values["variants"][1].update(fidelity_db=-1e300))
    assert [one.name for one in Bundle.open(tiny_bundle).unknown_variants] == ["onnx-int8-u8s7"]


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda values: values["tiling"].update(halo_px=5), "the halo in the manifest is 5 px; the graph needs 8 px"),
        (lambda values: values["tiling"].update(halo_px=9), "state tiling Tiling(halo_px=8"),
        (lambda values: values.update(normalization="unit"), "state input_normalization"),
    ],
    ids=["halo too small", "halo of another network", "normalization"],
)
def test_verify_holds_the_manifest_to_the_graph(
    tiny_bundle: Path, edit: Callable[[dict[str, Any]], None], words: str
) -> None:
    pytest.importorskip("onnx", reason="needs onnx: pip install 'edgedenoise[quantize]'")
    reseal(tiny_bundle, edit)
    report = edgedenoise.verify(tiny_bundle)
    assert not report.passed
    assert words in report.variants[0].reason


def test_verify_holds_the_manifest_to_the_metadata_of_every_backend(tiny_bundle: Path) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install 'edgedenoise[openvino]'")
    pytest.importorskip("onnx", reason="needs onnx: pip install 'edgedenoise[quantize]'")
    edgedenoise.compile(tiny_bundle, target="openvino", precision="fp32")
    assert edgedenoise.verify(tiny_bundle).passed
    reseal(tiny_bundle, lambda values: values["tiling"].update(halo_px=9))
    checks = {check.variant: check for check in edgedenoise.verify(tiny_bundle).variants}
    assert checks["openvino-fp32"].status == "failed"
    assert "the metadata in openvino-fp32/model.xml state tiling" in checks["openvino-fp32"].reason


@pytest.mark.parametrize(
    "edit",
    [
        lambda values: values["tiling"].update(halo_px=2_000_000_000),
        lambda values: values["tiling"].update(multiple_of=10**18),
        lambda values: values["tiling"].update(bytes_per_px=2**63 - 1),
        lambda values: values["variants"][0].update(shapes={"kind": "fixed", "sides_px": []}),
        lambda values: values["variants"][0].update(shapes={"kind": "fixed", "sides_px": [2**33]}),
        lambda values: values["variants"][0].update(shapes={"kind": "ranged", "sides_px": [9, 8, 7]}),
    ],
)
def test_numbers_beyond_all_sense_are_refused(tiny_bundle: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    reseal(tiny_bundle, edit)
    with pytest.raises(BundleError):
        load(tiny_bundle, precision="fp32", runtime="onnxruntime")


@pytest.mark.parametrize("threads", [0, -1, 10**5, 2**31, 1.5, "2", True])
def test_numbers_of_threads_beyond_all_sense_are_refused(committed_bundle: Path, threads: Any) -> None:
    with pytest.raises(UsageError, match="expected 1 to 1024"):
        load(committed_bundle, threads=threads)
    with pytest.raises(UsageError, match="tile is"):
        load(committed_bundle, tile=10**20)


# ---------------------------------------------------------------- verify


def test_verify_checks_files_and_every_variant(committed_bundle: Path) -> None:
    report = edgedenoise.verify(committed_bundle)
    assert report.passed
    assert report.files_checked == 7
    floats, integers = report.variants
    assert (floats.status, integers.status) == ("passed", "passed")
    assert floats.psnr_db is not None
    assert floats.psnr_db >= FLOAT_BOUND_DB
    assert floats.reference_max_error_lsb is None
    assert integers.reference_max_error_lsb is not None
    assert integers.reference_psnr_db is not None
    assert integers.reference_psnr_db >= 60  # far closer to exact W8A8 than that is to float


def test_verify_without_onnx_only_leaves_the_lint_out(committed_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    report = edgedenoise.verify(committed_bundle)
    assert report.linted == ()
    assert report.passed
    assert [check.status for check in report.variants] == ["passed", "passed"]


def test_verify_reports_what_failed_and_goes_on(tiny_bundle: Path, nan_model: bytes) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.write("onnx-fp32/model.onnx", nan_model)
    report = edgedenoise.verify(tiny_bundle)
    assert not report.passed
    assert [check.status for check in report.variants] == ["failed", "passed"]
    assert "not finite" in report.variants[0].reason


def test_verify_says_which_runtime_is_missing(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.write("openvino-fp32/model.xml", b"<net/>")
        draft.put_variant(Variant("openvino-fp32", "openvino", "fp32", "openvino-fp32/model.xml"))
    report = edgedenoise.verify(tiny_bundle)
    assert report.passed  # nothing that can run here failed
    assert [check.status for check in report.variants] == ["passed", "passed", "not run"]
    assert 'pip install "edgedenoise[openvino]"' in report.variants[2].reason


def test_verify_refuses_a_damaged_bundle(tiny_bundle: Path, flip_byte: FlipByte) -> None:
    flip_byte(tiny_bundle / "calibration" / "ranges.json")
    with pytest.raises(IntegrityError, match=r"calibration/ranges\.json"):
        edgedenoise.verify(tiny_bundle)


def test_a_bundle_without_self_test_is_not_taken_on_trust(tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        draft.remove(IMAGE_FILE)
        draft.remove(ANSWER_FILE)
    with pytest.raises(IntegrityError, match="records no file 'selftest/"):
        load(tiny_bundle)


def test_a_promise_of_more_fidelity_than_there_is_fails(tiny_bundle: Path) -> None:
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as draft:
        integers = draft.manifest.variants[1]
        draft.put_variant(msgspec.structs.replace(integers, fidelity_db=(integers.fidelity_db or 0) + 10))
    with pytest.raises(ParityError):
        load(tiny_bundle, precision="int8")
