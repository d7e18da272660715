"""Ridge regression: kernel form, and the analytic last layer of a network, each by one Cholesky factor.

    alpha = (K_ss + ridge I)^-1 Y_s,   f(x_t) = K_ts alpha;   with K = Phi Phi^T:  W = Phi_s^T alpha

``ridge`` is **absolute** everywhere here; `relative` converts. (RCIG uses an absolute ridge proportional to the number
of synthetic examples; KIP and FRePo a ridge relative to the mean diagonal of the kernel.) Gram matrices and
solves run at full precision of their dtype, also where the hardware's default is lower.

>>> import jax.numpy as jnp
>>> round(predict(jnp.eye(2), jnp.eye(2), jnp.eye(2), 1.0)[0, 0].item(), 6)
0.5
"""

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg

HIGHEST = jax.lax.Precision.HIGHEST


def relative(ridge: float, k_ss: jax.Array) -> jax.Array:
    """Return the absolute ridge ``ridge * tr(k_ss) / M``."""
    return ridge * jnp.trace(k_ss) / len(k_ss)


def gram(features_1: jax.Array, features_2: jax.Array) -> jax.Array:
    """Return the inner products (N1, N2) of feature rows (N1, D) and (N2, D)."""
    return jnp.matmul(features_1, features_2.T, precision=HIGHEST)


def factor(k_ss: jax.Array, ridge: float | jax.Array) -> jax.Array:
    """Return the lower Cholesky factor (M, M) of ``k_ss + ridge I``, k_ss symmetric PSD. Cost M^3 / 3."""
    return jnp.linalg.cholesky(k_ss + ridge * jnp.eye(len(k_ss), dtype=k_ss.dtype))


def solve(factored: jax.Array, y: jax.Array) -> jax.Array:
    """Return ``(k_ss + ridge I)^-1 y``, of its `factor`, in the dtype of y. y (M, K). Cost 2 M^2 K."""
    return linalg.cho_solve((factored, True), y.astype(factored.dtype)).astype(y.dtype)


def predict(k_ss: jax.Array, k_ts: jax.Array, y_s: jax.Array, ridge: float | jax.Array) -> jax.Array:
    """Kernel ridge regression: ``k_ts (k_ss + ridge I)^-1 y_s``. k_ts (B, M), y_s (M, K) -> (B, K)."""
    return jnp.matmul(k_ts, solve(factor(k_ss, ridge), y_s), precision=HIGHEST)


def raised(k_ss: jax.Array, ridge: float) -> tuple[jax.Array, jax.Array]:
    """Return the absolute ridge of a **relative** one, times 10 until Cholesky succeeds, and that power of ten.

    Rounding makes the Gram matrix of rows that are nearly alike indefinite by more than a ridge of 1e-6 in float32.
    The times, () and 1 where nothing was raised, are a constant to derivatives. Cost: one factorisation.
    """
    strength = relative(ridge, k_ss)
    k, least = jax.lax.stop_gradient((k_ss, strength))

    def fails(times):
        return (times < 1e8) & ~jnp.all(jnp.isfinite(factor(k, times * least)))

    times = jax.lax.while_loop(fails, lambda times: 10 * times, jnp.ones((), k_ss.dtype))
    return times * strength, times


def predict_raised(k_ss: jax.Array, k_ts: jax.Array, y_s: jax.Array, ridge: float) -> tuple[jax.Array, jax.Array]:
    """Return `predict` with a **relative** ridge, where need be `raised`, and the times."""
    strength, times = raised(k_ss, ridge)
    return predict(k_ss, k_ts, y_s, strength), times


def condition(k_ss: jax.Array, ridge: float) -> jax.Array:
    """Return the condition number of k_ss with a **relative** ridge, (); infinite where it is not definite."""
    values = jnp.linalg.eigvalsh(k_ss) + relative(ridge, k_ss)  # rising
    return jnp.where(values[0] > 0, values[-1] / jnp.where(values[0] > 0, values[0], 1), jnp.inf)


def head(features: jax.Array, targets: jax.Array, ridge: float | jax.Array) -> jax.Array:
    """Return the last layer W (D, K) that minimises ``|targets - features W|^2 + ridge |W|^2``.

    Primal form ``(Phi^T Phi + ridge I)^-1 Phi^T Y`` for D <= M, else dual ``Phi^T (Phi Phi^T + ridge I)^-1 Y``; they
    are equal. features (M, D), targets (M, K), ridge > 0. Cost min(M, D)^3 / 3 + M D min(M, D).
    """
    if features.shape[1] <= features.shape[0]:
        moment = jnp.matmul(features.T, targets, precision=HIGHEST)
        return solve(factor(gram(features.T, features.T), ridge), moment)
    alpha = solve(factor(gram(features, features), ridge), targets)
    return jnp.matmul(features.T, alpha, precision=HIGHEST)
