"""RCIG: reparameterised, convexified implicit gradients (Loo et al., ICML 2023).

One outer step:
  1 draw a network theta from a pool whose networks are trained on the synthetic set only;
  2 solve the inner problem: the body linearised at theta, the last layer analytic (methods/_problems.py);
  3 differentiate the outer loss on a real batch: direct part + implicit part, each leaf of the implicit part clipped
    to the norm of the direct part;
  4 AdaBelief on images, labels and temperature; the moving average of these is the result;
  5 train theta 1..15 steps on the new synthetic set, replace it when it has grown old.

Deviations from the reference code, each measured or argued in its specification: theta stays frozen in the inner
problem (the reference lets it coast on stale momentum and discards the drift); the head's kernel has no tangent, also
in the inverse Hessian (it is analytic already; the code, not the paper, counts it twice); AdaBelief's rates are 0.9
times the paper's, which is what the optax of its time made of them; sub-sampled gradients are scaled to be unbiased,
and only gradients by the set, and with target_rows the inverse solve's right side, are sampled: the products of the two
solves take all rows; Adam's solver begins every solve anew, where the reference's counts on with the network's age; an
implicit part that is not finite stops the run, where the reference puts zeros for it.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import optax
from flax import struct

from methods import _rates
from methods._problems import PROBLEMS, Convexified, Psi, Sampling, Solvers, learned, support
from rcig import linear_solve, losses, pool
from rcig.data import sampling
from rcig.errors import UserError, must_be_positive, unknown
from rcig.implicit import MetaGradient, meta_gradient
from rcig.types import Batch, Key, Metrics, Model, PyTree, Synthetic, Variables

_NOT_DRAWN = {  # ablation -> rows that have no part in it
    "nonlinear": ("solve_rows",),
    "naive": ("direct_rows", "target_rows", "implicit_rows", "solve_rows"),
}


@struct.dataclass
class State:
    """Everything that changes. P networks in the pool."""

    psi: Psi
    opt_state: PyTree
    average: Psi  # running sum of the moving average, before bias correction
    step: jax.Array  # () int32, outer steps taken
    pool: pool.Member  # leaves (P, ...)
    rates: _rates.Rates


@dataclass(frozen=True)
class RCIG:
    """The method's hyperparameters; defaults are the paper's where nothing else is said."""

    model: Model
    ridge: float = 5e-4  # lambda per synthetic example, absolute
    flip: bool = False  # every use of the set adds its mirror images
    learn_labels: bool = True
    batch_size: int = 1024  # real examples a step
    learning_rate: float = 0.0027  # of images and labels; paper: 0.003, with the optax of its time
    temperature_learning_rate: float = 0.027  # paper: 0.03
    decay_steps: int = 0  # the rates fall to 0 by a half cosine in so many steps; 0: constant, as in the paper
    average_decay: float = 0.99
    clip: bool = True  # each implicit leaf to the norm of its direct leaf
    problem: str = "convexified"  # or an ablation: nonlinear, naive
    solver: str = "cg"  # or "adam", the paper's
    tolerance: float = 1e-1  # cg: relative residual; smaller ones are no more accurate on digits, and slower
    max_products: int = 50  # cg: at most so many products; with 1000 mirrored images 20 reach the tolerance
    solver_steps: int = 20  # adam: steps of either solve
    inner_rate: float = 0.0  # adam: learning rates; 0 searches
    inverse_hvp_rate: float = 0.0
    pool_size: int = 30
    pool_learning_rate: float = 5e-5
    pool_max_steps: int = 15  # a drawn network is trained 1..this many steps
    pool_max_age: int = 100
    pool_rows: int = 0  # synthetic examples in a pool step; 0 is all
    direct_rows: int = 0  # rows differentiated in each term; 0 is all
    target_rows: int = 0
    implicit_rows: int = 0
    rows_at_once: int = 0  # of a network pass, but for the solves' products; 0 chooses by platform
    solve_rows: int = 0  # of these at a time, computed again for each product; 0 keeps all rows' activations: faster
    solve_dtype: str = "float32"  # of the Gram matrix and its factor; float64 needs config.x64

    def __post_init__(self):
        choices = {"problem": PROBLEMS, "solver": ("adam", "cg"), "solve_dtype": ("float32", "float64")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise unknown(f"method.{name}", getattr(self, name), known)
        if self.problem != "convexified" and self.solver == "cg":
            raise UserError(f"method.solver 'cg' needs a quadratic problem, not {self.problem!r}; set it to 'adam'")
        for name in _NOT_DRAWN.get(self.problem, ()):
            if getattr(self, name):
                raise UserError(f"method.{name} has no part in problem {self.problem!r}; set it to 0")
        if self.problem == "naive" and self.clip:
            raise UserError("method.clip scales to the direct part, which problem 'naive' lacks; set it to False")
        if self.solve_dtype == "float64" and not jax.config.jax_enable_x64:
            raise UserError("method.solve_dtype 'float64' needs 64-bit mode; set config.x64 to True")
        must_be_positive(
            "method", self, "ridge", "learning_rate", "batch_size", "pool_size", "pool_max_steps", "pool_max_age"
        )
        must_be_positive("method", self, "solver_steps", "max_products")
        if not 0 < self.tolerance < 1:
            raise UserError(f"method.tolerance must lie in (0, 1), not {self.tolerance}: from 1 on nothing is solved")
        if not 0 <= self.average_decay < 1:
            raise UserError(f"method.average_decay must lie in [0, 1), not {self.average_decay}; 0 averages nothing")

    def init(self, key: Key, synthetic: Synthetic, batch: Batch) -> State:
        """Return the state at step 0: the pool is fresh, Adam's rates are searched on one network if it is used."""
        dtype = synthetic.inputs.dtype
        psi = Psi(jnp.asarray(synthetic.inputs), jnp.asarray(synthetic.labels, dtype), jnp.zeros((), dtype))
        key_pool, key_rates = jax.random.split(key)
        networks = pool.create(key_pool, self.model.init, self._pool_optimizer(), self.pool_size)
        variables = pool.take(networks, 0).variables
        return State(
            psi=psi,
            opt_state=self._optimizer().init(psi),
            average=optax.tree.zeros_like(psi),
            step=jnp.int32(0),
            pool=networks,
            rates=self._search_rates(self._problem(key_rates, variables, batch), psi),
        )

    def rows(self, key: Key, labels: jax.Array) -> jax.Array:
        """Return a uniform batch of rows."""
        return sampling.iid(key, len(labels), self.batch_size)

    def step(self, key: Key, state: State, batch: Batch) -> tuple[State, Metrics]:
        """Take one outer step."""
        key_draw, key_problem, key_train, key_renew = jax.random.split(key, 4)
        index = jax.random.randint(key_draw, (), 0, self.pool_size)
        member = pool.take(state.pool, index)

        inner, meta = self.meta_gradient(key_problem, state.rates, member.variables, state.psi, batch)
        updates, opt_state = self._optimizer().update(self._combine(meta), state.opt_state, state.psi)
        psi = optax.apply_updates(state.psi, updates)
        average = optax.incremental_update(psi, state.average, 1 - self.average_decay)
        member = self._train(key_train, member, psi)
        member = pool.renew(key_renew, member, self.model.init, self._pool_optimizer(), self.pool_max_age)
        rates = state.rates if inner.energies is None else _rates.adapt(state.rates, inner.energies)

        (loss, accuracy), solution = meta.value, meta.solution
        metrics = {
            "loss": loss,
            "accuracy": accuracy,
            "direct_norm": optax.tree.norm(meta.direct),
            "implicit_norm": optax.tree.norm(meta.implicit),
            "inner_residual": inner.residual,
            "inverse_hvp_residual": solution.residual,
            "products": inner.steps + solution.steps,
            "temperature": jnp.exp(psi.log_temperature),
        }
        state = State(psi, opt_state, average, state.step + 1, pool.put(state.pool, index, member), rates)
        return state, metrics

    def meta_gradient(
        self, key: Key, rates: _rates.Rates, variables: Variables, psi: Psi, batch: Batch
    ) -> tuple[linear_solve.Solution, MetaGradient]:
        """Solve the inner problem at one network and differentiate the outer loss on one batch through it."""
        problem = self._problem(key, variables, batch)
        minimise, inverse_hvp = problem.systems(psi, self._solvers())
        inner = minimise(rates.inner)
        solve = inverse_hvp(rates.inverse_hvp, inner.value)
        return inner, meta_gradient(problem.inner_loss, problem.outer_loss, inner.value, psi, solve)

    def synthetic(self, state: State) -> Synthetic:
        """Return the moving average, corrected for its start at zero (before the first step: the start itself)."""
        weight = 1 - self.average_decay**state.step
        inputs, labels, _ = jax.tree.map(
            lambda mean, now: jnp.where(state.step > 0, mean / jnp.where(weight > 0, weight, 1), now).astype(now.dtype),
            state.average,
            state.psi,
        )
        return Synthetic(inputs, labels)

    def _problem(self, key: Key, variables: Variables, batch: Batch) -> Convexified:
        sampled = Sampling(self.direct_rows, self.target_rows, self.implicit_rows, self.rows_at_once, self.solve_rows)
        dtype = jnp.promote_types(self.solve_dtype, batch.inputs.dtype)
        return PROBLEMS[self.problem](self.model, self.ridge, self.flip, dtype, sampled, key, variables, batch)

    def _solvers(self) -> Solvers:
        if self.solver == "cg":
            solve = partial(linear_solve.cg, tolerance=self.tolerance, max_steps=self.max_products)
            return Solvers(lambda matvec, b, rate: solve(matvec, b), self.solver_steps)
        solve = partial(linear_solve.adam, num_steps=self.solver_steps)
        return Solvers(lambda matvec, b, rate: solve(matvec, b, learning_rate=rate), self.solver_steps)

    def _combine(self, meta: MetaGradient) -> Psi:
        """Return direct + implicit part, the latter clipped leaf by leaf; labels held fixed unless learned."""

        def combine(direct, implicit):
            direct_norm, implicit_norm = jnp.linalg.norm(direct), jnp.linalg.norm(implicit)
            clipped = implicit * jnp.nan_to_num(jnp.minimum(direct_norm, implicit_norm) / implicit_norm)
            return direct + (clipped if self.clip else implicit)

        grads = jax.tree.map(combine, meta.direct, meta.implicit)
        return learned(grads, self.learn_labels)

    def _optimizer(self) -> optax.GradientTransformation:
        def belief(rate):
            rate = optax.cosine_decay_schedule(rate, self.decay_steps) if self.decay_steps else rate
            return optax.adabelief(rate, eps=1e-16, eps_root=1e-16)

        rules = {"set": belief(self.learning_rate), "temperature": belief(self.temperature_learning_rate)}
        return optax.partition(rules, Psi("set", "set", "temperature"))

    def _pool_optimizer(self) -> optax.GradientTransformation:
        return optax.adam(self.pool_learning_rate)

    def _train(self, key: Key, member: pool.Member, psi: Psi) -> pool.Member:
        """Train the plain network on the synthetic set, a random number of steps."""
        key_steps, key_rows = jax.random.split(key)
        gradient = pool.learning(self.model, losses.mse, *support(psi, self.flip), self.pool_rows)
        num_steps = jax.random.randint(key_steps, (), 1, self.pool_max_steps + 1)
        return pool.train(key_rows, member, gradient, self._pool_optimizer(), num_steps)

    def _search_rates(self, problem: Convexified, psi: Psi) -> _rates.Rates:
        rates = _rates.constant(self.inner_rate, self.inverse_hvp_rate)
        if self.solver == "cg":
            return rates
        minimise, inverse_hvp = problem.systems(psi, self._solvers())
        if not self.inner_rate:
            rates = rates._replace(inner=_rates.search(lambda rate: minimise(rate).energies, 1e-5))
        if not self.inverse_hvp_rate:
            tau = minimise(rates.inner).value
            gradient = jax.grad(problem.outer_loss, has_aux=True)(tau, psi)[0]
            outer = _rates.search(lambda rate: inverse_hvp(rate, tau)(gradient).energies, 5e-5)
            rates = rates._replace(inverse_hvp=outer)
        return rates


make = RCIG
