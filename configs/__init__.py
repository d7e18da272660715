"""Experiments: one file each, with ``get_config() -> ConfigDict``."""
