"""Fixtures of these tests."""

from bundle_fixtures import (  # noqa: F401
    _noisy_images,
    branched_bundle,
    make_bundle,
    noisy_folder,
    private_cache,
)
