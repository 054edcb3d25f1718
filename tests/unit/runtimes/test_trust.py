"""An engine with code for the host runs only where it was built, or where the user trusts it; no bundle can say so."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from fake_nvidia import RECORD, opened, variant

from edgedenoise.bundles.bundle import Bundle
from edgedenoise.bundles.model_files import ModelFiles
from edgedenoise.bundles.writer import BundleWriter
from edgedenoise.denoiser import load_variant
from edgedenoise.errors import IncompatibleError
from edgedenoise.exporting.verify import check_variant
from edgedenoise.runtimes.tensorrt.backend import TensorRT
from edgedenoise.runtimes.tensorrt.engine_record import write_record
from edgedenoise.runtimes.tensorrt.trust import host_code_mac, is_built_here

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMPATIBLE = msgspec.structs.replace(RECORD, version_compatible=True)


@pytest.fixture(autouse=True)
def user_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of a user who has built nothing yet."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "edgedenoise"


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each engine that was loaded, whether its code was allowed to run."""
    import fake_tensorrt

    seen: list[bool] = []
    load = fake_tensorrt.Runtime.deserialize_cuda_engine

    def noted(self: fake_tensorrt.Runtime, plan: bytes) -> object:
        seen.append(self.engine_host_code_allowed)
        return load(self, plan)

    monkeypatch.setattr(fake_tensorrt.Runtime, "deserialize_cuda_engine", noted)
    return seen


@pytest.mark.usefixtures("machine", "cuda")
@pytest.mark.parametrize("mac", ["", "0" * 64, "é"])
def test_a_strangers_engine_is_never_loaded_on_its_own_word(
    engine: Callable[..., Path], allowed: list[bool], mac: str
) -> None:
    path = engine(msgspec.structs.replace(COMPATIBLE, host_code_mac=mac))
    with pytest.raises(IncompatibleError, match="contains code that runs on this computer") as caught:
        opened(path)
    assert "--trust-engine" in str(caught.value)
    assert "edgedenoise compile" in str(caught.value)
    assert allowed == [], "TensorRT was not given the file"


@pytest.mark.usefixtures("machine", "cuda")
def test_an_engine_that_the_user_trusts_is_loaded(engine: Callable[..., Path], allowed: list[bool]) -> None:
    opened(engine(COMPATIBLE), trust_engine=True).close()
    opened(engine(RECORD), trust_engine=True).close()
    assert allowed == [True, False], "an engine without such code is given no right to run any"


@pytest.mark.usefixtures("machine", "cuda")
def test_an_engine_that_was_built_here_is_loaded(
    engine: Callable[..., Path], allowed: list[bool], user_data: Path
) -> None:
    path = engine(COMPATIBLE)
    write_record(path, msgspec.structs.replace(COMPATIBLE, host_code_mac=host_code_mac(path.read_bytes())))
    opened(path).close()
    assert allowed == [True]
    path.write_bytes(path.read_bytes() + b" ")  # other code under the same record
    with pytest.raises(IncompatibleError, match="was not built here"):
        opened(path)
    (user_data / "engine-key").unlink()  # another machine, or another user
    assert TensorRT().untrusted_reason(variant(), ModelFiles.read(path)) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="permissions are POSIX's")
def test_a_key_that_others_could_read_vouches_for_nothing(user_data: Path) -> None:
    mac = host_code_mac(b"engine")
    key = user_data / "engine-key"
    assert key.stat().st_mode & 0o077 == 0
    assert is_built_here(b"engine", mac)
    key.chmod(0o644)
    assert not is_built_here(b"engine", mac)


def test_a_data_folder_that_cannot_be_written_only_costs_the_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    assert host_code_mac(b"engine") == ""


# ---------------------------------------------------------------- in commands


@pytest.fixture
def bundle_of_a_stranger(tiny_bundle: Path, engine: Callable[..., Path]) -> Bundle:
    """A bundle with an engine that has code for the host."""
    path = engine(COMPATIBLE)
    with BundleWriter.edit(Bundle.open(tiny_bundle)) as writer:
        for name in ("engine.plan", "engine.json"):
            writer.write(f"{variant().name}/{name}", path.with_name(name).read_bytes())
        writer.put_variant(variant())
    return Bundle.open(tiny_bundle)


@pytest.mark.usefixtures("machine", "cuda")
def test_verify_loads_such_an_engine_only_where_the_user_trusts_it(
    bundle_of_a_stranger: Bundle, allowed: list[bool]
) -> None:
    check = check_variant(bundle_of_a_stranger, variant())
    assert check.status == "not run"
    assert "--trust-engine" in check.reason
    assert allowed == []
    check_variant(bundle_of_a_stranger, variant(), trust_engine=True)
    assert allowed == [True]


@pytest.mark.usefixtures("machine", "cuda")
def test_measurements_load_such_an_engine_only_where_the_user_trusts_it(
    bundle_of_a_stranger: Bundle, allowed: list[bool]
) -> None:
    """`bench`, `compare` and `test` open variants by `load_variant`, in processes of their own."""
    with pytest.raises(IncompatibleError, match="contains code that runs on this computer"):
        load_variant(bundle_of_a_stranger, variant().name, selftest=False)
    load_variant(bundle_of_a_stranger, variant().name, trust_engine=True, selftest=False).close()
    assert allowed == [True]


@pytest.mark.parametrize("command", ["denoise", "watch", "bench", "compare", "verify", "test"])
def test_every_command_that_opens_engines_has_the_option(command: str) -> None:
    from typer.main import get_command

    from edgedenoise.cli import app

    options = {name for one in get_command(app).commands[command].params for name in one.opts}  # type: ignore[attr-defined]
    assert "--trust-engine" in options
