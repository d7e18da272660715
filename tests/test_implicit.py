"""Implicit gradients and RCIG's convexified problem: closed forms, finite differences, kernel ridge regression."""

from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import optax
import pytest
import toy

from kernels import empirical, linearize, ridge
from methods._problems import PROBLEMS, Psi, Sampling, Solvers, support
from rcig import implicit, linear_solve
from rcig.types import Batch

STRENGTH = 0.05  # lambda per synthetic example
ALL = Sampling()
FLIP = pytest.mark.parametrize("flip", [pytest.param(False, marks=pytest.mark.slow), True])  # True does all, twice
TIGHT = Solvers(lambda matvec, b, rate: linear_solve.cg(matvec, b, tolerance=1e-13, max_steps=200), 20)


def psi(ipc=1):
    synthetic = toy.synthetic(ipc)
    return Psi(synthetic.inputs, synthetic.labels, jnp.array(0.3))


def batch(size=20):
    train = toy.dataset().train
    return Batch(jnp.asarray(train.inputs[:size]), jnp.asarray(train.labels[:size]))


def problem(kind="convexified", flip=False, sampling=ALL, strength=STRENGTH, **options):
    model = toy.model(**({"activation": "softplus", "beta": 5.0} | options))
    variables = model.init(jax.random.key(7))
    return PROBLEMS[kind](model, strength, flip, jnp.float64, sampling, jax.random.key(0), variables, batch())


def random_tau(convexified, seed=2):
    flat, unravel = jax.flatten_util.ravel_pytree(convexified.base)
    return unravel(0.05 * jax.random.normal(jax.random.key(seed), flat.shape, flat.dtype))


def written_out(convexified, tau, psi):
    """The inner objective as the paper states it, with the analytic head inserted (reference §1.3)."""
    x, y = support(psi, convexified.flip)
    strength = STRENGTH * len(psi.inputs)
    d, phi = linearize.tangent(convexified.network(x), convexified.base, tau)
    alpha = jnp.linalg.solve(phi @ phi.T + strength * jnp.eye(len(x)), y - d)
    w = phi.T @ alpha
    fit = jnp.sum((y - d - phi @ w) ** 2)
    return (fit + strength * (jnp.sum(w**2) + optax.tree.vdot(tau, tau))) / (2 * y.size)


@FLIP
def test_closed_form_gradient_and_hessian_of_the_inner_objective(flip):
    convexified = problem(flip=flip)
    tau = random_tau(convexified)
    closed, open_ = partial(convexified.inner_loss, psi=psi(2)), partial(written_out, convexified, psi=psi(2))
    direction = jax.tree.map(jnp.cos, tau)

    @jax.jit
    def compare(tau):
        minimise, inverse_hvp = convexified.systems(psi(2), TIGHT)
        recovered = inverse_hvp(0.0, tau)(implicit.hvp(open_, tau, direction)).value  # H^-1 (H v) = v
        at_minimum = jax.grad(open_)(minimise(0.0).value)
        values, gradients = ([f(tau) for f in (closed, open_)], [jax.grad(f)(tau) for f in (closed, open_)])
        return values, gradients, (recovered, direction), at_minimum

    *pairs, at_minimum = compare(tau)
    for a, b in pairs:
        assert optax.tree.norm(optax.tree.sub(a, b)) < 1e-10
    assert optax.tree.norm(at_minimum) < 1e-10


@FLIP
def test_optimum_is_kernel_ridge_regression_on_the_head_and_body_ntk(flip):
    convexified = problem(flip=flip)
    strength = STRENGTH * len(psi(2).inputs)
    fn = lambda p, x: convexified.network(x)(p)[0]
    phi = lambda x: convexified.network(x)(convexified.base)[1]

    def kernel(a, b):  # head + body, as a matrix (A K, B K)
        head = jnp.einsum("ab,kl->abkl", phi(a) @ phi(b).T, jnp.eye(toy.NUM_CLASSES))
        full = head + empirical.ntk_full(fn, convexified.base, a, b)
        return full.transpose(0, 2, 1, 3).reshape(len(a) * toy.NUM_CLASSES, -1)

    @jax.jit
    def compare(psi):
        (x_s, y_s), x_t = support(psi, flip), convexified.batch.inputs
        want = ridge.predict(kernel(x_s, x_s), kernel(x_t, x_s), y_s.reshape(-1, 1), strength)
        tau = convexified.systems(psi, TIGHT)[0](0.0).value
        d_s, d_t = (linearize.tangent(convexified.network(x), convexified.base, tau)[0] for x in (x_s, x_t))
        return (d_t + phi(x_t) @ ridge.head(phi(x_s), y_s - d_s, strength)).ravel(), want.ravel()

    got, want = compare(psi(2))
    assert jnp.max(jnp.abs(got - want)) < 1e-10


def exact(convexified, psi):
    """The inner minimum by a dense dual solve: tau = J^T (K + lambda I + J J^T)^-1 Y, J materialised."""
    x, y = support(psi, convexified.flip)
    flat, unravel = jax.flatten_util.ravel_pytree(convexified.base)
    jacobian = jax.jacrev(lambda p: convexified.network(x)(unravel(p))[0])(flat).reshape(y.size, -1)  # (n K, P)
    phi = convexified.network(x)(convexified.base)[1]
    gram = jnp.kron(phi @ phi.T + STRENGTH * len(psi.inputs) * jnp.eye(len(x)), jnp.eye(toy.NUM_CLASSES))
    return unravel(jacobian.T @ jnp.linalg.solve(gram + jacobian @ jacobian.T, y.ravel()))


def test_cg_equals_the_exact_dual_solve_and_adam_comes_as_near_as_its_residual():
    convexified = problem(flip=True)
    adam = lambda matvec, b, rate: linear_solve.adam(matvec, b, learning_rate=rate, num_steps=600)
    loose = lambda matvec, b, rate: linear_solve.cg(matvec, b, tolerance=1e-3)

    @jax.jit
    def compare(psi):
        want = exact(convexified, psi)
        solved = [convexified.systems(psi, Solvers(solve, 0))[0](2e-3) for solve in (TIGHT.solve, loose, adam)]
        distances = [optax.tree.norm(optax.tree.sub(one.value, want)) / optax.tree.norm(want) for one in solved]
        return distances, [one.residual for one in solved]

    (tight, near, adams), (_, near_residual, adams_residual) = compare(psi(2))
    condition = 20  # bounds the Hessian's, so that |error| <= condition * residual
    assert tight < 1e-10
    assert 1e-6 < near < condition * near_residual < 0.02
    assert adams < condition * adams_residual < 0.5


def meta(convexified, psi, solvers=TIGHT):
    minimise, inverse_hvp = convexified.systems(psi, solvers)
    tau = minimise(0.0).value
    return implicit.meta_gradient(convexified.inner_loss, convexified.outer_loss, tau, psi, inverse_hvp(0.0, tau))


@pytest.mark.parametrize(
    "flip, chunk, solve", [(False, 0, 0), pytest.param(True, 0, 0, marks=pytest.mark.slow), (True, 4, 0), (True, 0, 5)]
)
def test_meta_gradient_equals_central_differences_of_the_converged_problem(flip, chunk, solve):
    convexified = problem(flip=flip, sampling=Sampling(chunk=chunk, solve=solve))
    start = psi(2)
    result = jax.jit(partial(meta, convexified))(start)
    total = optax.tree.add(result.direct, result.implicit)
    converged = jax.jit(lambda p: convexified.outer_loss(exact(convexified, p), p)[0])
    for seed in range(3):
        flat, unravel = jax.flatten_util.ravel_pytree(start)
        direction = unravel(jax.random.normal(jax.random.key(seed), flat.shape, flat.dtype))
        want = toy.central_difference(converged, start, direction)
        assert abs(optax.tree.vdot(total, direction) - want) < 1e-6 * max(1, abs(want))
    assert optax.tree.norm(result.implicit) > 1e-3 * optax.tree.norm(result.direct)


def test_meta_gradient_of_ridge_regression_equals_autodiff_through_the_solution():
    a = jax.random.normal(jax.random.key(0), (9, 4))
    b, c = jax.random.normal(jax.random.key(1), (9,)), jax.random.normal(jax.random.key(2), (4,))
    inner = lambda w, s: jnp.sum((a @ w - b) ** 2) / 2 + jnp.exp(s) * jnp.sum(w**2) / 2
    solution = lambda s: jnp.linalg.solve(a.T @ a + jnp.exp(s) * jnp.eye(4), a.T @ b)
    outer = lambda w, s: (jnp.sum((w - c) ** 2) + s**2, None)
    s = jnp.array(0.4)
    hessian = lambda v: implicit.hvp(lambda w: inner(w, s), solution(s), v)
    result = implicit.meta_gradient(
        inner,
        outer,
        solution(s),
        s,
        lambda g: linear_solve.cg(hessian, g, tolerance=1e-14, max_steps=30),
    )
    want = jax.grad(lambda s: outer(solution(s), s)[0])(s)
    assert abs(result.direct + result.implicit - want) < 1e-9
    assert abs(result.direct - 2 * s) < 1e-12


def test_sampled_gradients_are_unbiased_and_exact_when_all_rows_are_drawn():
    full, same = (jax.jit(partial(meta, problem(sampling=sampled)))(psi(2)) for sampled in (ALL, Sampling(6, 20, 6, 0)))
    for a, b in zip(jax.tree.leaves(full[1:3]), jax.tree.leaves(same[1:3]), strict=True):
        assert jnp.allclose(a, b, atol=1e-12)
    tau = random_tau(problem())
    h = random_tau(problem(), seed=1)

    def gradients(at):  # direct by tau and by psi, implicit
        slope = lambda psi: jax.jvp(lambda t: at.inner_loss(t, psi), (tau,), (h,))[1]
        return *jax.grad(at.outer_loss, (0, 1), has_aux=True)(tau, psi(2))[0], jax.grad(slope)(psi(2)).inputs

    def sampled(key):
        convexified = problem(sampling=Sampling(2, 5, 2, 0))
        object.__setattr__(convexified, "key", key)
        return gradients(convexified)

    draws = jax.jit(partial(jax.lax.map, sampled))(jax.random.split(jax.random.key(0), 100))
    for part, whole in zip(draws, jax.jit(lambda: gradients(problem()))(), strict=True):
        error = optax.tree.norm(jax.tree.map(lambda a, b: a.mean(0) - b, part, whole))
        spread = optax.tree.norm(jax.tree.map(lambda a: a.std(0), part))
        assert 0 < error < 4 * spread / 10


@pytest.mark.parametrize("kind, strength, rate", [("nonlinear", STRENGTH, 1.0), ("naive", 5.0, 0.1)])
def test_ablations_differentiate_their_own_inner_problem(kind, strength, rate):
    """At a converged inner minimum their implicit gradient, too, equals central differences."""
    ablation = problem(kind, strength=strength, width=2)
    flat, unravel = jax.flatten_util.ravel_pytree(ablation.base)

    def minimum(p):  # gradient descent, then Newton
        inner = lambda t: ablation.inner_loss(unravel(t), p)
        descend = lambda _, t: t - rate * jax.grad(inner)(t)
        newton = lambda _, t: t - jnp.linalg.solve(jax.hessian(inner)(t), jax.grad(inner)(t))
        near = jax.lax.fori_loop(0, 1000, descend, jnp.zeros_like(flat))
        return jax.lax.fori_loop(0, 5, newton, near)

    @jax.jit
    def compare(psi, direction):
        tau = unravel(minimum(psi))
        hessian = jax.hessian(lambda t: ablation.inner_loss(unravel(t), psi))(minimum(psi))
        flat_solve = lambda g: jnp.linalg.solve(hessian, jax.flatten_util.ravel_pytree(g)[0])
        solve = lambda g: linear_solve.Solution(unravel(flat_solve(g)), jnp.zeros(()), jnp.int32(0))
        result = implicit.meta_gradient(ablation.inner_loss, ablation.outer_loss, tau, psi, solve)
        converged = lambda p: ablation.outer_loss(unravel(minimum(p)), p)[0]
        want = toy.central_difference(converged, psi, direction, 1e-4)
        got = optax.tree.vdot(optax.tree.add(result.direct, result.implicit), direction)
        return got, want, optax.tree.norm(jax.grad(ablation.inner_loss)(tau, psi))

    direction = jax.tree.map(lambda a: jnp.sin(3.0 * jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape), psi(1))
    got, want, slope = compare(psi(1), direction)
    assert slope < 1e-9  # Newton has converged
    assert abs(got - want) < 1e-4 * max(1e-3, abs(want))


def test_the_solves_keep_the_activations_of_as_many_rows_as_said():
    """Of 64 rows, 8 at a time: the same solution within a quarter of the memory."""
    inputs = jax.random.normal(jax.random.key(0), (64, *toy.SHAPE))
    start = Psi(inputs, jax.random.normal(jax.random.key(1), (64, toy.NUM_CLASSES)), jnp.zeros(()))

    def solved(rows):
        convexified = problem(sampling=Sampling(solve=rows))
        solve = jax.jit(lambda psi: convexified.systems(psi, TIGHT)[0](0.0)[0]).lower(start).compile()
        return solve(start), solve.memory_analysis().temp_size_in_bytes

    (tau, memory), (same, less) = solved(0), solved(8)
    assert optax.tree.norm(optax.tree.sub(tau, same)) < 1e-8 * optax.tree.norm(tau)
    assert less < memory / 4
