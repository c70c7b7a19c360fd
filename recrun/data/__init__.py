"""One file, or folder, per kind of data. Nothing imports them by name: a YAML `_target_` does."""
