"""Meta-gradients by the implicit function theorem.

At a minimum tau*(psi) of an inner loss, with outer loss L(tau, psi) and H the Hessian of the inner loss in tau:

    dL/dpsi = dL/dpsi|_tau  -  d/dpsi < h, grad_tau inner(tau*, psi) >,      H h = dL/dtau
              direct part      implicit part

(Lorraine et al. 2020; Loo et al. 2023, eq. 4). The two parts are returned apart: methods weigh or clip them.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax

from rcig.linear_solve import Solution
from rcig.types import PyTree

InnerLoss = Callable[[PyTree, PyTree], jax.Array]  # (tau, psi) -> ()
OuterLoss = Callable[[PyTree, PyTree], tuple[jax.Array, PyTree]]  # (tau, psi) -> ((), aux)


class MetaGradient(NamedTuple):
    """A meta-gradient in its two parts, each like psi."""

    value: PyTree  # what the outer loss returned: (loss, aux)
    direct: PyTree
    implicit: PyTree
    solution: Solution  # h, with its residual


def hvp(loss: Callable[[PyTree], jax.Array], params: PyTree, vector: PyTree) -> PyTree:
    """Return the Hessian-vector product ``H v`` of a scalar loss, forward over reverse: about 5 forward passes."""
    return jax.jvp(jax.grad(loss), (params,), (vector,))[1]


def meta_gradient(
    inner_loss: InnerLoss,
    outer_loss: OuterLoss,
    tau: PyTree,
    psi: PyTree,
    inverse_hvp: Callable[[PyTree], Solution],
) -> MetaGradient:
    """Differentiate the outer loss at an inner minimum with respect to psi.

    Args:
      inner_loss: ``(tau, psi) -> ()``, stationary in tau at ``tau``.
      outer_loss: ``(tau, psi) -> (loss, aux)``.
      tau, psi: trees of arrays, inner minimum and meta-parameters.
      inverse_hvp: ``g -> Solution`` of ``H h = g``.
    Cost: one gradient of each loss, one solve, one gradient of a jvp of the inner loss.
    """
    value, (gradient, direct) = jax.value_and_grad(outer_loss, (0, 1), has_aux=True)(tau, psi)
    solution = inverse_hvp(gradient)

    def slope(psi):  # < h, grad_tau inner >
        return jax.jvp(lambda t: inner_loss(t, psi), (tau,), (solution.value,))[1]

    implicit = jax.tree.map(lambda g: -g, jax.grad(slope)(psi))
    return MetaGradient(value, direct, implicit, solution)
