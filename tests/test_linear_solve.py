"""The solvers on matrices of known spectrum, against dense solves and exact series."""

import jax
import jax.numpy as jnp
import pytest

from rcig import linear_solve
from rcig.inner import descend

SIZE = 12


def matrix(condition=3.0):
    q, _ = jnp.linalg.qr(jax.random.normal(jax.random.key(0), (SIZE, SIZE)))
    return q @ jnp.diag(jnp.linspace(1, condition, SIZE)) @ q.T


def problem(condition=3.0):
    a, b = matrix(condition), jax.random.normal(jax.random.key(1), (SIZE,))
    tree = {"x": b[:5], "y": b[5:].reshape(7, 1)}
    flat = lambda t: jnp.concatenate([t["x"], t["y"].ravel()])
    unflat = lambda v: {"x": v[:5], "y": v[5:].reshape(7, 1)}
    return a, b, tree, flat, lambda t: unflat(a @ flat(t))


@pytest.mark.parametrize("condition", [1.0, 3.0, 1000.0])
def test_cg_equals_the_dense_solve(condition):
    a, b, tree, flat, matvec = problem(condition)
    solution = linear_solve.cg(matvec, tree, tolerance=1e-13, max_steps=60)
    assert jnp.max(jnp.abs(flat(solution.value) - jnp.linalg.solve(a, b))) < 1e-10
    assert solution.residual < 1e-10


def test_cg_stops_at_its_tolerance_and_reports_the_true_residual():
    a, b, tree, flat, matvec = problem()
    loose, tight = (linear_solve.cg(matvec, tree, tolerance=t, max_steps=50) for t in (1e-1, 1e-8))
    assert loose.steps < tight.steps <= SIZE
    for solution, tolerance in ((loose, 1e-1), (tight, 1e-8)):
        true = jnp.linalg.norm(b - a @ flat(solution.value)) / jnp.linalg.norm(b)
        assert abs(true - solution.residual) < 1e-10 and solution.residual <= tolerance
    capped = linear_solve.cg(matvec, tree, tolerance=1e-8, max_steps=2)
    assert capped.steps == 2 and capped.residual > 1e-8


def test_cg_of_zero_is_zero():
    *_, matvec = problem()
    solution = linear_solve.cg(matvec, {"x": jnp.zeros(5), "y": jnp.zeros((7, 1))})
    assert solution.steps == 0 and solution.residual == 0 and jnp.all(solution.value["x"] == 0)


def test_neumann_equals_its_partial_sum_and_converges():
    a, b, tree, flat, matvec = problem()
    step = 0.4
    series, term = jnp.zeros(SIZE), step * b
    for _ in range(5):
        series, term = series + term, term - step * a @ term
    short = linear_solve.neumann(matvec, tree, step_size=step, num_steps=5)
    assert jnp.max(jnp.abs(flat(short.value) - series)) < 1e-12
    long = linear_solve.neumann(matvec, tree, step_size=step, num_steps=80)
    assert jnp.max(jnp.abs(flat(long.value) - jnp.linalg.solve(a, b))) < 1e-10


def test_adam_descends_to_the_solution_and_its_energies_say_so():
    a, b, tree, flat, matvec = problem()
    solution = linear_solve.adam(matvec, tree, learning_rate=0.02, num_steps=600)
    assert solution.energies[0] == 0 and solution.energies[-1] < solution.energies[100] < 0
    assert jnp.max(jnp.abs(flat(solution.value) - jnp.linalg.solve(a, b))) < 1e-3
    true = jnp.linalg.norm(b - a @ flat(solution.value)) / jnp.linalg.norm(b)
    assert abs(true - solution.residual) < 1e-12


def test_descend_reports_the_value_before_each_step():
    import optax

    x, values = descend(lambda x: (x**2, 2 * x), jnp.array(1.0), optax.sgd(0.25), 3)
    assert x == 0.125 and values.tolist() == [1.0, 0.25, 0.0625]
