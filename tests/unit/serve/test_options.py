"""What a server accepts as options."""

from __future__ import annotations

import pytest

from edgedenoise.bundles.manifest import Limits
from edgedenoise.errors import UsageError
from edgedenoise.serve.options import ServeOptions, parse_limits


def test_limits_are_read_from_text() -> None:
    limits = parse_limits("max-ms=400, max-drop=0.1,min-psnr=40,max-levels=16")
    assert limits == Limits(max_ms=400, max_drop_db=0.1, min_psnr_db=40, max_error_lsb=16)
    assert parse_limits(None) == Limits()


@pytest.mark.parametrize("text", ["max-ms", "max-ms=", "max-ms=-1", "max-ms=inf", "max-ms=nan", "speed=3", "=3"])
def test_wrong_limits_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected"):
        parse_limits(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses_are_local(host: str) -> None:
    assert ServeOptions(host=host).is_local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "laptop.local", "127.0.0.1.example.com"])  # noqa: S104
def test_all_other_addresses_are_not(host: str) -> None:
    assert not ServeOptions(host=host).is_local


@pytest.mark.parametrize("wrong", [{"port": 70000}, {"max_queue": 0}, {"max_upload": 0}, {"models": ()}])
def test_wrong_values_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        ServeOptions(**wrong)  # type: ignore[arg-type]
