"""The bundle format: folder, manifest, archive, model card and the shipped bundles."""
