"""RCIG as its text says it: the yardstick of rcig_step.py.

One meta-step is driven from Python: a handful of compiled units, their floats fetched in between. Nothing is hoisted:
each of 20 inner Adam steps differentiates the inner loss through its own forward pass and linear solve, each of 20
products of the inverse Hessian's Adam is forward over reverse of that loss; a batch passes through the network whole.
Networks and convolution are the library's, so that only the structure of the computation differs. In two places it
follows the library rather than the reference's accidents: theta is frozen, and the head's kernel has no tangent.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rcig.types import Model


class Psi(NamedTuple):
    inputs: Any  # (S, ...)
    labels: Any  # (S, K)
    log_temperature: Any  # ()


_unit = partial(jax.jit, static_argnums=0)  # the program's description is static, all else is data
_optimizer = optax.partition(
    {"set": optax.adabelief(0.0027), "temperature": optax.adabelief(0.027)}, Psi("set", "set", "temperature")
)
_pool_optimizer = optax.adam(5e-5)


def support(psi):
    """The set and its mirror images: n = 2S rows."""
    inputs = jnp.concatenate([psi.inputs, psi.inputs[:, :, ::-1]])
    return inputs, jnp.concatenate([psi.labels, psi.labels])


@dataclass(frozen=True)
class Plain:
    model: Model
    inner_rate: float
    inverse_hvp_rate: float
    ridge: float = 5e-4
    num_steps: int = 20

    def forward(self, theta, tau, x):
        """Tangent output J_theta f(theta, x) tau, and the features at theta."""

        def network(params):
            outputs, _ = self.model.apply({"params": params}, x, False, None)
            return outputs.logits, outputs.features

        head = {"kernel": jnp.zeros_like(theta["head"]["kernel"]), "bias": tau["head"]["bias"]}
        (_, features), (tangent, _) = jax.jvp(network, (theta,), ({**tau, "head": head},))
        return tangent, features

    def head(self, psi, targets, d, features):
        """alpha = (K + lambda I)^-1 (Y - D) and the last layer w = Phi^T alpha."""
        gram = jnp.matmul(features, features.T, precision="highest")
        strength = self.ridge * len(psi.inputs)
        alpha = jnp.linalg.solve(gram + strength * jnp.eye(len(gram), dtype=gram.dtype), targets - d)
        return jnp.matmul(features.T, alpha, precision="highest"), strength

    def inner_loss(self, tau, theta, psi):
        """[ |Y - P|^2 + lambda (|w|^2 + |tau|^2) ] / 2nK"""
        inputs, targets = support(psi)
        d, features = self.forward(theta, tau, inputs)
        w, strength = self.head(psi, targets, d, features)
        error = targets - d - jnp.matmul(features, w, precision="highest")
        energy = jnp.sum(error**2) + strength * (jnp.sum(w**2) + optax.tree.vdot(tau, tau))
        return energy / (2 * targets.size)

    def outer_loss(self, tau, psi, theta, batch):
        """Cross-entropy of the tempered prediction, less the capped margin of the labels."""
        inputs, targets = support(psi)
        d, features = self.forward(theta, tau, inputs)
        w, _ = self.head(psi, targets, d, features)
        d, features = self.forward(theta, tau, batch.inputs)
        predictions = d + jnp.matmul(features, w, precision="highest")
        scores = jax.nn.log_softmax(jnp.exp(psi.log_temperature) * predictions)
        top = jax.lax.top_k(psi.labels, 2)[0]
        margin = jnp.mean(jnp.minimum(top[:, 0] - top[:, 1], 1 / (2 * targets.shape[1])))
        loss = -jnp.mean(jnp.take_along_axis(scores, batch.labels[:, None], 1)) - margin
        return loss, jnp.mean(jnp.argmax(predictions, 1) == batch.labels)

    @_unit
    def inner(self, theta, psi):
        """20 Adam steps from tau = 0, and the losses before each."""
        tau = {**theta, "head": {"bias": theta["head"]["bias"]}}
        value_and_grad = jax.value_and_grad(self.inner_loss)
        return self._adam(lambda tau: value_and_grad(tau, theta, psi), tau, self.inner_rate)

    @_unit
    def direct(self, tau, psi, theta, batch):
        return jax.value_and_grad(self.outer_loss, (0, 1), has_aux=True)(tau, psi, theta, batch)

    @_unit
    def inverse_hvp(self, tau, theta, psi, g):
        """20 Adam steps on h^T H h / 2 - g^T h from h = 0, and what is monitored, h^T (H h - 2 g)."""

        def value_and_grad(h):
            product = jax.jvp(lambda t: jax.grad(self.inner_loss)(t, theta, psi), (tau,), (h,))[1]
            monitored = optax.tree.vdot(h, product) - 2 * optax.tree.vdot(h, g)
            return monitored, optax.tree.sub(product, g)

        return self._adam(value_and_grad, g, self.inverse_hvp_rate)

    @_unit
    def implicit(self, tau, theta, psi, h):
        """- d/dpsi <h, grad_tau inner>"""
        slope = lambda psi: optax.tree.vdot(h, jax.grad(self.inner_loss)(tau, theta, psi))
        return jax.tree.map(jnp.negative, jax.grad(slope)(psi))

    @_unit
    def update(self, psi, opt_state, average, direct, implicit):
        """Clip the implicit part leaf by leaf, take an AdaBelief step, average."""

        def combine(direct, implicit):
            norms = jnp.linalg.norm(direct), jnp.linalg.norm(implicit)
            return direct + jnp.nan_to_num(implicit * jnp.minimum(*norms) / norms[1])

        updates, opt_state = _optimizer.update(jax.tree.map(combine, direct, implicit), opt_state, psi)
        psi = optax.apply_updates(psi, updates)
        return psi, opt_state, jax.tree.map(lambda a, p: 0.99 * a + 0.01 * p, average, psi)

    @_unit
    def train(self, theta, opt_state, psi, num_steps):
        """Pool steps: the plain network on the new set."""
        inputs, targets = support(psi)

        def loss(theta):
            outputs, _ = self.model.apply({"params": theta}, inputs, True, None)
            return jnp.sum((outputs.logits - targets) ** 2) / (2 * targets.size)

        def step(_, carry):
            theta, opt_state = carry
            updates, opt_state = _pool_optimizer.update(jax.grad(loss)(theta), opt_state)
            return optax.apply_updates(theta, updates), opt_state

        return jax.lax.fori_loop(0, num_steps, step, (theta, opt_state))

    def meta_gradient(self, theta, psi, batch):
        """Return the loss, and the direct and the implicit part, each like psi."""
        tau, inner_trace = self.inner(theta, psi)
        jax.device_get(inner_trace)  # between two units a driver looks at the floats: is the rate still right?
        (loss, accuracy), (g, direct) = self.direct(tau, psi, theta, batch)
        jax.device_get((loss, accuracy))
        h, monitored = self.inverse_hvp(tau, theta, psi, g)
        jax.device_get(monitored)
        return float(loss), direct, self.implicit(tau, theta, psi, h)

    def step(self, state, batch, num_pool_steps: int):
        """One meta-step. state = (psi, optimiser state, average, theta, theta's optimiser state)."""
        psi, opt_state, average, theta, theta_state = state
        _, direct, implicit = self.meta_gradient(theta, psi, batch)
        psi, opt_state, average = self.update(psi, opt_state, average, direct, implicit)
        return psi, opt_state, average, *self.train(theta, theta_state, psi, num_pool_steps)

    def start(self, key, synthetic):
        """Return a state: one network (which of a pool is drawn costs nothing here)."""
        psi = Psi(jnp.asarray(synthetic.inputs), jnp.asarray(synthetic.labels), jnp.zeros(()))
        theta = self.model.init(key)["params"]
        return psi, _optimizer.init(psi), jax.tree.map(jnp.zeros_like, psi), theta, _pool_optimizer.init(theta)

    def _adam(self, value_and_grad, like, rate):
        optimizer = optax.adam(rate)

        def step(carry, _):
            x, state = carry
            value, gradient = value_and_grad(x)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(x, updates), state), value

        x = jax.tree.map(jnp.zeros_like, like)
        (x, _), values = jax.lax.scan(step, (x, optimizer.init(x)), None, length=self.num_steps)
        return x, values
