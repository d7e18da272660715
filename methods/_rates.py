"""Learning rates for RCIG's two Adam solvers: found before distillation, adapted during it (reference §1.8)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rcig.types import Array

_FACTOR = 1.2  # of the search; the result is 0.84 times the first rate that failed
_LEAP = 5  # the search first leaps by _FACTOR**_LEAP
_WINDOW = 50  # steps between adaptations


class Rates(NamedTuple):
    """Two learning rates, and what the inner energies did since the last adaptation."""

    inner: Array  # ()
    inverse_hvp: Array  # ()
    rose: Array  # () int32, traces that ended above their start
    fell: Array  # () int32, traces that fell at every step
    seen: Array  # () int32


def constant(inner: float, inverse_hvp: float) -> Rates:
    """Return rates with an empty history."""
    zero = jnp.int32(0)
    return Rates(jnp.float32(inner), jnp.float32(inverse_hvp), zero, zero, zero)


def fell(energies: jax.Array) -> jax.Array:
    """Return whether a trace (T,) falls at every step."""
    return jnp.all(energies[1:] < energies[:-1])


def search(energies: Callable[[jax.Array], jax.Array], start: float) -> jax.Array:
    """Return 0.84 times the first rate of the grid ``start * 1.2^i`` at which the energies do not fall throughout.

    The reference tries every grid point; leaping ahead first takes a fifth of the trials.
    """

    def climb(rate, factor):
        return jax.lax.while_loop(lambda r: fell(energies(r)) & (r < 1e3), lambda r: r * factor, rate)

    leapt = climb(jnp.float32(start), _FACTOR**_LEAP)
    from_last_good = jnp.maximum(leapt / _FACTOR**_LEAP, start)
    return 0.7 * _FACTOR * climb(from_last_good, _FACTOR)


def adapt(rates: Rates, energies: jax.Array) -> Rates:
    """Count one more inner trace; every 50 steps lower the inner rate (29 % rose) or raise it (70 % fell)."""
    rates = rates._replace(
        rose=rates.rose + (energies[-1] > energies[0]),
        fell=rates.fell + fell(energies),
        seen=rates.seen + 1,
    )
    factor = jnp.where(rates.rose >= 0.29 * _WINDOW, 0.9, jnp.where(rates.fell >= 0.70 * _WINDOW, 1.05, 1.0))
    adapted = constant(0, 0)._replace(inner=rates.inner * factor.astype(jnp.float32), inverse_hvp=rates.inverse_hvp)
    return jax.tree.map(lambda new, old: jnp.where(rates.seen >= _WINDOW, new, old), adapted, rates)
