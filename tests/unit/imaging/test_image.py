"""The class `Image`; `test_files.py` covers its arrays through files."""

from __future__ import annotations

import pytest

from edgedenoise.imaging import image


def test_the_old_name_still_works_with_a_warning() -> None:
    with pytest.warns(DeprecationWarning, match=r"use edgedenoise\.Image"):
        from edgedenoise.imaging.image import Photo
    assert Photo is image.Image
    with pytest.raises(AttributeError, match="Picture"):
        _ = image.Picture
