"""The bilevel problem inside RCIG's step: inner loss, outer loss, and how the two inner systems are solved.

`Convexified` is the paper's: the body enters by its tangent at the pool network's parameters theta, the last layer is
analytic. With Phi the base features, D = J tau, A = (Phi Phi^T + lambda I)^-1, r = Y - D (n rows, flips counted):

    inner(tau) = lambda / (2 n K) * (tr(r^T A r) + |tau|^2),     prediction = D_t + Phi_t Phi_s^T A r

so the inner problem is the linear system H tau = c with H = s (I + J^T A J), c = s J^T A Y, s = lambda / (n K), and the
inverse Hessian of the implicit gradient is the same H. Everything but the solve is constant: computed once.

`Nonlinear` keeps f(theta + tau) - f(theta) in place of the tangent; `Naive` trains the plain network: the ablations.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from kernels import linearize, ridge
from rcig import implicit, linear_solve, losses, sharding
from rcig.augment import mirrored
from rcig.chunks import mean_rows, spread_rows
from rcig.errors import UserError
from rcig.inner import descend
from rcig.linear_solve import Solution
from rcig.types import Array, Batch, Key, Model, Outputs, PyTree, Variables


class Psi(NamedTuple):
    """What RCIG and FRePo learn."""

    inputs: Array  # (S, ...)
    labels: Array  # (S, K), regression targets
    log_temperature: Array  # ()


class Solvers(NamedTuple):
    """``(matvec, b, rate) -> Solution`` for the inner problem and for the inverse Hessian; steps for plain descent."""

    solve: Callable[..., Solution]
    num_steps: int


class Sampling(NamedTuple):
    """How many rows are differentiated in each term, of all that enter it; 0 is all (reference §1.11)."""

    direct: int = 0
    target: int = 0
    implicit: int = 0
    chunk: int = 0  # rows at a time, of a network pass
    solve: int = 0  # rows at a time, of the solves' products; 0: all, linearised once


def learned(gradient: PyTree, labels: bool) -> PyTree:
    """Return the gradient of a set, with zeros for its labels unless they are learned."""
    return gradient if labels else gradient._replace(labels=jnp.zeros_like(gradient.labels))


def support(psi: Psi, flip: bool) -> tuple[jax.Array, jax.Array]:
    """Return the rows that are fed, (n, ...) and (n, K): with ``flip``, mirrored copies behind the originals."""
    return sharding.whole(mirrored(psi.inputs, psi.labels) if flip else (psi.inputs, psi.labels))


@dataclass(frozen=True)
class Convexified:
    """One bilevel problem: at one pool network, for one real batch. Arrays here are traced values."""

    model: Model
    ridge: float  # lambda per synthetic example
    flip: bool
    solve_dtype: Any
    sampling: Sampling
    key: Key
    variables: Variables
    batch: Batch

    body = staticmethod(linearize.tangent)

    @property
    def base(self) -> PyTree:
        """The parameters that have a tangent: all but the head's kernel, which is analytic."""
        params = self.variables["params"]
        return {**params, "head": {"bias": params["head"]["bias"]}}

    def network(self, inputs: jax.Array, chunk: int = 0) -> Callable:
        """Return ``trained -> (logits, features)`` at these inputs, the head's kernel being theta's."""
        return lambda trained: spread_rows(self.apply, self.variables_with(trained), inputs, chunk)

    def apply(self, variables: Variables, inputs: jax.Array) -> Outputs:
        return self.model.apply(variables, inputs, False, None)[0]

    def variables_with(self, trained: PyTree) -> Variables:
        head = {**trained["head"], "kernel": self.variables["params"]["head"]["kernel"]}
        return {**self.variables, "params": {**trained, "head": head}}

    def forward(self, tau: PyTree, inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return tangent outputs (n, K) and base features (n, D)."""
        return self.body(self.network(inputs, self.sampling.chunk), self.base, tau)

    def forward_sampled(self, key: Key, tau: PyTree, inputs: jax.Array, num_rows: int) -> tuple[jax.Array, jax.Array]:
        """Like `forward`, with gradients by ``inputs`` through ``num_rows`` random rows only, scaled to stay unbiased.

        tau keeps all rows: in the implicit term a row's share is a product of both derivatives, and drawing it twice,
        once for each, would weigh it wrongly.
        """
        if not 0 < num_rows < len(inputs):
            return self.forward(tau, inputs)
        rows = jax.random.choice(key, len(inputs), (num_rows,), replace=False)
        still = jax.lax.stop_gradient(inputs)
        moving, resting = self.forward(tau, inputs[rows]), self.forward(tau, still[rows])
        add = lambda whole, a, b: whole.at[rows].add(len(inputs) / num_rows * (a - b))
        return jax.tree.map(add, self.forward(tau, still), moving, resting)

    def factor(self, features: jax.Array) -> jax.Array:
        """Factor the regularised Gram matrix of the support; lambda does not count flips."""
        strength = self.ridge * len(features) / (2 if self.flip else 1)
        features = features.astype(self.solve_dtype)
        return ridge.factor(ridge.gram(features, features), strength)

    def scale(self, targets: jax.Array) -> float:
        """Return s = lambda / (n K)."""
        return self.ridge / (2 if self.flip else 1) / targets.shape[1]

    def inner_loss(self, tau: PyTree, psi: Psi) -> jax.Array:
        """The inner objective, with the last layer minimised out. () scalar."""
        inputs, targets = support(psi, self.flip)
        d, features = self.forward_sampled(jax.random.fold_in(self.key, 0), tau, inputs, self.sampling.implicit)
        residual = targets - d
        alpha = ridge.solve(self.factor(features), residual)
        return self.scale(targets) / 2 * (jnp.vdot(residual, alpha) + optax.tree.vdot(tau, tau))

    def outer_loss(self, tau: PyTree, psi: Psi) -> tuple[jax.Array, jax.Array]:
        """The "Platt" loss on the real batch (reference §1.5), and the accuracy.

        mean CE(softmax(e^log_temperature P_t), labels) - mean_j min(top-1 margin of label j, 1 / 2K)
        """
        inputs, targets = support(psi, self.flip)
        d, features = self.forward_sampled(jax.random.fold_in(self.key, 1), tau, inputs, self.sampling.direct)
        alpha = ridge.solve(self.factor(features), targets - d)
        head = jnp.matmul(features.T, alpha, precision=ridge.HIGHEST)
        loss, accuracy = self.mean_target_loss(tau, (head, psi.log_temperature))
        return loss - losses.label_margin(psi.labels, 1 / (2 * targets.shape[1])), accuracy

    def mean_target_loss(self, tau: PyTree, last: PyTree) -> tuple[jax.Array, jax.Array]:
        """Return the mean over the real batch; tau's gradient is that of ``sampling.target`` random rows, if any."""
        num_rows, chunk = len(self.batch.labels), self.sampling.chunk
        if not 0 < self.sampling.target < num_rows:
            return mean_rows(self.target_loss, (tau, last), self.batch, chunk)
        if sharding.in_parts():
            raise UserError(
                "method.target_rows are drawn from a whole batch, of which pmap sees parts; config.parallel=jit"
            )
        key = jax.random.fold_in(self.key, 2)
        rows = jax.random.choice(key, num_rows, (self.sampling.target,), replace=False)
        drawn = jax.tree.map(lambda a: a[rows], self.batch)
        fixed_tau, fixed_last = jax.lax.stop_gradient((tau, last))
        part, _ = mean_rows(lambda tau, batch: self.target_loss((tau, fixed_last), batch), tau, drawn, chunk)
        loss, accuracy = mean_rows(
            lambda last, batch: self.target_loss((fixed_tau, last), batch), last, self.batch, chunk
        )
        return loss + (part - jax.lax.stop_gradient(part)), accuracy

    def target_loss(self, learned: PyTree, batch: Batch) -> tuple[jax.Array, jax.Array]:
        """Return cross-entropy and accuracy on real rows, from (tau, (analytic head, log temperature))."""
        tau, (head, log_temperature) = learned
        d, features = self.body(lambda p: self.apply(self.variables_with(p), batch.inputs), self.base, tau)
        predictions = d + jnp.matmul(features, head, precision=ridge.HIGHEST)
        return losses.platt(log_temperature, predictions, batch.labels), losses.accuracy(predictions, batch.labels)

    def systems(self, psi: Psi, solvers: Solvers) -> tuple[Callable, Callable]:
        """Return ``rate -> Solution``, tau, and ``(rate, tau) -> (g -> Solution)``: the two solves, on one matrix."""
        inputs, targets = support(psi, self.flip)
        if self.sampling.solve:
            jacobian = linearize.rematerialized(self.network(inputs, self.sampling.solve), self.base)
        else:
            jacobian = linearize.linearize(self.network(inputs, len(inputs)), self.base)
        factored, s = self.factor(jacobian.aux), self.scale(targets)

        def matvec(v):
            back = jacobian.vjp(ridge.solve(factored, jacobian.jvp(v)))
            return jax.tree.map(lambda a, b: s * (a + b), v, back)

        c = jax.tree.map(lambda g: s * g, jacobian.vjp(ridge.solve(factored, targets)))
        return partial(solvers.solve, matvec, c), lambda rate, tau: partial(solvers.solve, matvec, rate=rate)


class Nonlinear(Convexified):
    """Ablation: the body's finite difference in place of its tangent; the inner problem is no longer quadratic."""

    body = staticmethod(linearize.difference)

    def systems(self, psi: Psi, solvers: Solvers) -> tuple[Callable, Callable]:
        inner = partial(self.inner_loss, psi=psi)

        def minimise(rate):
            start = optax.tree.zeros_like(self.base)
            tau, energies = descend(jax.value_and_grad(inner), start, optax.adam(rate), solvers.num_steps)
            gradient = optax.tree.norm(jax.grad(inner)(tau)) / optax.tree.norm(jax.grad(inner)(start))
            return Solution(tau, gradient, jnp.int32(solvers.num_steps), energies)

        return minimise, lambda rate, tau: partial(
            linear_solve.adam, partial(implicit.hvp, inner, tau), learning_rate=rate, num_steps=solvers.num_steps
        )


class Naive(Nonlinear):
    """Ablation: the implicit gradient of the plain network. tau is the displacement of all its parameters.

    inner = sum (f - Y)^2 / 2nK + lambda |theta + tau|^2 / 2nK;   outer = the same error on the real batch.
    """

    @property
    def base(self) -> PyTree:
        return self.variables["params"]

    def variables_with(self, trained: PyTree) -> Variables:
        return {**self.variables, "params": trained}

    def inner_loss(self, tau: PyTree, psi: Psi) -> jax.Array:
        inputs, targets = support(psi, self.flip)
        params = optax.tree.add(self.base, tau)
        logits = self.network(inputs, self.sampling.chunk)(params).logits
        return losses.mse(logits, targets) + self.scale(targets) / 2 * optax.tree.vdot(params, params)

    def outer_loss(self, tau: PyTree, psi: Psi) -> tuple[jax.Array, jax.Array]:
        def loss(params, batch):
            logits = self.apply(self.variables_with(params), batch.inputs).logits
            targets = losses.centred_targets(batch.labels, psi.labels.shape[1]).astype(logits.dtype)
            return losses.mse(logits, targets), losses.accuracy(logits, batch.labels)

        return mean_rows(loss, optax.tree.add(self.base, tau), self.batch, self.sampling.chunk)


PROBLEMS = {"convexified": Convexified, "nonlinear": Nonlinear, "naive": Naive}
