"""Distillation methods: one file each, with ``make(model, **options) -> Method``."""
