"""Kernel mathematics on arrays and functions: ridge regression, linearisation, empirical kernels."""
