"""Training configuration: fields, checks, presets and TOML."""
