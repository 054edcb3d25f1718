"""Fixtures of the tests in this folder."""

from bundle_fixtures import (  # noqa: F401
    _noisy_images,
    branched_bundle,
    make_bundle,
    noisy_folder,
)
