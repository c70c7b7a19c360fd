"""One file per model. Nothing imports them by name: a YAML `_target_` does."""
