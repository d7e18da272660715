"""Test settings: float64, strict rank promotion, eight virtual CPU devices, warnings are errors."""

import gc
import os

import jaxlib

_FLAGS = "--xla_backend_optimization_level=0"  # tests compile more than they run
if tuple(map(int, jaxlib.__version__.split(".")[:2])) < (0, 11):  # later ones do not know it, and end the process
    _FLAGS += " --xla_cpu_use_fusion_emitters=false"  # compiles twice as fast
    _FLAGS += " --xla_cpu_parallel_codegen_split_count=1"  # each worker has one core
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", _FLAGS)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its threads would spin on cores that other tests use

import jax
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_num_cpu_devices", 8)


gc.collect()
gc.freeze()  # what is imported stays
gc.set_threshold(50_000, 20, 100)  # tracing makes many objects that live


@pytest.fixture(autouse=True, scope="module")
def clear_caches():
    """Compiled programs of one file are of no use to the next, and memory is short."""
    yield
    jax.clear_caches()
