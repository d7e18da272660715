"""Networks: one file a family, each with ``make(example_shape, num_classes, **options) -> Model``."""
