"""Rows shared out over eight devices give what one device gives, at every order of differentiation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig import cluster, sharding
from rcig.chunks import mean_rows, spread_rows
from rcig.errors import UserError

RNG = np.random.default_rng(0)
PARAMS, INPUTS = RNG.standard_normal((5, 3)), RNG.standard_normal((40, 5))


def outputs(params, inputs, size):
    return spread_rows(lambda params, x: jnp.tanh(x @ params), params, inputs, size)


def cubes(params, inputs, size):
    return jnp.sum(outputs(params, inputs, size) ** 3)


def tangents(params, inputs, size):
    """A product with the Jacobian and its transpose, as the inner solves of RCIG take them."""
    _, jvp = jax.linearize(lambda p: outputs(p, inputs, size), params)
    return jax.linear_transpose(jvp, params)(jvp(params))


def curvature(params, inputs, size):
    return jax.jvp(jax.grad(partial(cubes, inputs=inputs, size=size)), (params,), (params,))


def mean_gradient(params, inputs, size):
    loss = lambda params, x: (jnp.mean(jnp.tanh(x @ params)), {"mean": jnp.mean(x)})
    return jax.value_and_grad(lambda p: mean_rows(loss, p, inputs, size), has_aux=True)(params)


@pytest.mark.parametrize("of", [cubes, jax.grad(cubes, (0, 1)), tangents, curvature, mean_gradient])
@pytest.mark.parametrize(("rows", "size"), [(40, 0), (40, 2), (36, 0), (3, 0)])  # 36: not the same for every device
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_rows_on_eight_devices_equal_rows_on_one(of, rows, size, parallel):
    def compiled(num_devices):
        layout = sharding.layout(parallel, num_devices)
        step = layout.compile(lambda params, x: (params, of(params, x, size)))
        return sharding.fetch(step(layout.replicate(PARAMS), INPUTS[:rows])[1])

    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), compiled(8), compiled(1))


def test_the_devices_share_the_rows():
    layout = sharding.layout("jit")
    step = layout.compile(lambda params, x: (params, outputs(params, x, 0)))
    text = step.lower(layout.replicate(PARAMS), INPUTS).compile().as_text()
    assert "f64[5,3]{1,0} tanh" in text and "f64[40,3]{1,0} tanh" not in text


@pytest.mark.parametrize("keep", [sharding.whole, lambda tree: tree])
def test_what_every_device_has_whole_is_not_exchanged(keep):
    layout = sharding.layout("jit")
    mirrored = lambda x: keep(jnp.concatenate([x, jnp.flip(x, 1)]))
    step = layout.compile(lambda params, x: (params, jax.grad(lambda x: cubes(params, mirrored(x), 0))(x)))
    text = step.lower(*layout.replicate((PARAMS, INPUTS))).compile().as_text()
    assert ("collective-permute" in text) == (keep is not sharding.whole)


@pytest.mark.parametrize("refuse", [lambda layout: layout.check(17), lambda layout: layout.fitted(17, 1 << 30, 1)])
def test_a_batch_that_does_not_divide_over_devices_that_must_all_be_taken_is_refused(monkeypatch, refuse):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="batch of 17 examples is not divisible by 8 devices; .* a multiple of 8"):
        refuse(sharding.layout("jit"))


@pytest.mark.parametrize(
    ("rows", "row_bytes", "state_bytes", "used"),
    [
        (64, 1 << 20, 1, 8),
        (63, 1 << 20, 1, 7),  # which divide the batch
        (17, 1 << 20, 1, 1),
        (64, 1 << 12, 1, 4),  # 64 KiB of the batch each
        (64, 1, 1, 1),
        (64, 1 << 20, 1 << 30, 4),  # 4 GiB for all
        (64, 1 << 20, 1 << 40, 1),
    ],
)
def test_of_a_cpu_as_many_cores_serve_as_share_a_batch_well(rows, row_bytes, state_bytes, used):
    assert sharding.layout("jit").fitted(rows, rows * row_bytes, state_bytes).mesh.size == used


@pytest.mark.parametrize(
    ("variables", "joins"),
    [
        ({"SLURM_STEP_NODELIST": "node1", "SLURM_STEP_NUM_TASKS": "1"}, False),  # alone in its step
        ({"SLURM_STEP_NODELIST": "node1", "SLURM_STEP_NUM_TASKS": "2"}, True),
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "1"}, False),
        ({"OMPI_MCA_orte_hnp_uri": "1.0;tcp://10.0.0.1:1", "OMPI_COMM_WORLD_SIZE": "4"}, True),
        ({"TPU_WORKER_HOSTNAMES": "a"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, True),
        ({"SLURM_STEP_NUM_TASKS": "1", "JAX_COORDINATOR_ADDRESS": "a:1"}, True),
    ],
)
def test_a_process_joins_others_only_where_there_are_any(variables, joins, monkeypatch):
    joined = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda: joined.append(True))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cluster.connect() == joins == bool(joined)
