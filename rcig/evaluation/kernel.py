"""Kernel ridge regression on the set, with the kernel of an infinitely wide network or of fresh finite ones.

    python eval.py --distilled=runs/kip_mnist_ipc1 --protocol=kernel --config.eval.trained_networks=5

    predictions = k(x_test, x_s) (k(x_s, x_s) + lambda I)^-1 y_s,   lambda relative to the mean diagonal

The labels are taken as they are. Kernels:

    those of kernels/infinite.py   how KIP's papers judge; nothing is random. ``--config.x64=True`` as the references
    empirical_ntk                  k = J J^T, the network linearised at its initialisation and trained to the end; an
                                   output of one example and another of the other are related, too
    empirical_nngp                 k = Phi Phi^T, its last layer trained to the end: FRePo's, at age 0

The last two are of ``num_networks`` fresh networks, the judge's. ``trained_networks`` more are trained on the set by
RCIG's protocol (rcig/evaluation/standard.py): what a set that was made for kernels is worth to them.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernels import empirical, infinite, ridge
from rcig.augment import mirrored
from rcig.chunks import map_features, map_rows
from rcig.errors import UserError, must_be_positive, unknown
from rcig.evaluation import standard
from rcig.evaluation._details import measure
from rcig.evaluation.standard import Result, check_fits
from rcig.types import Array, Dataset, Key, Model, Synthetic, Variables


class Kernel(NamedTuple):
    """A kernel as its matrix on a set (M, ...) and its product with coefficients (M, K).

    The matrix is (M, M), the same for every output, or (M K, M K).
    """

    matrix: Callable[[jax.Array], jax.Array]
    product: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]  # x (B, ...), x_s, coefficients -> (B, K)


@dataclass(frozen=True)
class KernelRegression:
    """The options ``eval.*``."""

    kernel: str = "fully_connected"  # see kernels/infinite.py; or a name in EMPIRICAL
    depth: int = 1  # of an infinite one; KIP's convnet has 3
    ridge: float = 1e-6
    num_networks: int = 5  # of an empirical kernel
    trained_networks: int = 0
    num_steps: int = 0  # of these; 0: as the standard protocol has it
    flip: bool = False  # append the mirrored examples
    test_chunk: int = 1000  # test examples at a time
    rows_at_once: int = 0  # of an infinite kernel within a chunk; 0 chooses

    def __post_init__(self):
        if self.kernel not in EMPIRICAL:
            check("eval", self.kernel, self.depth, EMPIRICAL)
        must_be_positive("eval", self, "ridge", "num_networks", "test_chunk")
        if self.trained_networks < 0:
            raise UserError(f"eval.trained_networks must not be negative, not {self.trained_networks}; 0 trains none")


def check(section: str, kernel: str, depth: int, others: Iterable[str] = ()) -> None:
    """Raise UserError for an unknown kernel, a depth that it does not have, or one whose package is missing."""
    if kernel not in infinite.KERNELS:
        raise unknown(f"{section}.kernel", kernel, (*infinite.KERNELS, *others))
    if depth < 1 or (kernel.endswith("myrtle") and depth not in (5, 7, 10)):
        raise UserError(f"{section}.depth {depth} does not fit kernel {kernel!r}; choose 1 or more, of myrtle 5, 7, 10")
    try:
        infinite.KERNELS[kernel](depth)
    except ImportError as error:
        raise UserError(f"{section}.kernel {kernel!r}: {error}") from error


def check_set(section: str, options: Any, inputs: Array) -> None:
    """Do `check_examples` and `check_matrix`, once a run. May be traced; compiles one kernel matrix, in float32."""
    check_examples(section, options, inputs)
    if jnp.result_type(float) != jnp.float64:
        k_ss = jax.jit(partial(infinite.ntk, options.kernel, options.depth))
        check_matrix(section, options, k_ss(inputs, inputs))


def check_examples(section: str, options: Any, inputs: Array) -> None:
    """Raise UserError for examples (M, ...) that the kernel does not take.

    The convolutional ones want images, with pixels left after every pooling.
    """
    k_ss = partial(infinite.ntk, options.kernel, options.depth)
    example = jax.ShapeDtypeStruct((1, *inputs.shape[1:]), jnp.float32)
    try:
        jax.eval_shape(k_ss, example, example)
    except ValueError as error:
        told = f"{section}.kernel {options.kernel!r} of depth {options.depth} does not fit examples {inputs.shape[1:]}"
        raise UserError(f"{told} ({str(error).splitlines()[0]}); choose a smaller depth or fully_connected") from error


def check_matrix(section: str, options: Any, k_ss: jax.Array) -> None:
    """Warn where 32-bit arithmetic is too coarse for a kernel matrix (M, M) and its ridge. May be traced."""
    if jnp.result_type(float) == jnp.float64:
        return

    def warn(condition):
        if not condition * jnp.finfo(jnp.float32).eps < 1:
            warnings.warn(
                f"the kernel matrix with {section}.ridge {options.ridge} has condition number {condition:.1e}, too "
                "much for float32; set --config.x64=True or a larger ridge",
                stacklevel=2,
            )

    jax.debug.callback(warn, ridge.condition(k_ss, options.ridge))


def infinite_kernel(protocol: KernelRegression) -> Kernel:
    """Return the kernel of an infinitely wide network."""
    ntk = partial(infinite.ntk, protocol.kernel, protocol.depth)
    product = lambda x, x_s, alpha: ridge.gram(ntk(x, x_s, protocol.rows_at_once), alpha.T)
    return Kernel(lambda x_s: ntk(x_s, x_s), product)


def ntk_kernel(model: Model, variables: Variables) -> Kernel:
    """Return the tangent kernel of a network, its outputs apart."""

    def outputs(params, x):
        return model.apply({**variables, "params": params}, x, False, None)[0].logits

    def matrix(x_s):
        full = _exact(empirical.ntk_full(outputs, variables["params"], x_s, x_s))  # (M, M, K, K)
        return full.transpose(0, 2, 1, 3).reshape(full.shape[0] * full.shape[2], -1)

    def product(x, x_s, alpha):  # empirical.ntk_product, but J(x_s)^T alpha once for all rows of x
        params = variables["params"]
        values, pull = jax.vjp(lambda p: outputs(p, x_s), params)
        (along,) = pull(alpha.astype(values.dtype))
        return map_rows(lambda x: jax.jvp(lambda p: outputs(p, x), (params,), (along,))[1], x)

    return Kernel(matrix, product)


def nngp_kernel(model: Model, variables: Variables) -> Kernel:
    """Return the conjugate kernel of a network."""
    features = partial(map_features, model, variables)
    gram = lambda a, b: ridge.gram(_exact(features(a)), _exact(features(b)))
    return Kernel(lambda x_s: gram(x_s, x_s), lambda x, x_s, alpha: ridge.gram(gram(x, x_s), alpha.T))


def _exact(values: jax.Array) -> jax.Array:
    """In 64-bit mode what a network of 32 bits computes is solved for in 64: the matrix is near to singular."""
    return values.astype(jnp.result_type(float))


EMPIRICAL: dict[str, Callable[[Model, Variables], Kernel]] = {
    "empirical_ntk": ntk_kernel,
    "empirical_nngp": nngp_kernel,
}
PRESETS: dict[str, dict[str, Any]] = {"kernel": {}}


def evaluate(key: Key, synthetic: Synthetic, dataset: Dataset, model: Model, protocol: KernelRegression) -> Result:
    """Classify the test split. Returns an accuracy for each network, or the one of an infinitely wide one (std 0).

    ``details`` hold the ``kernel`` (an infinite one is the ``model``, too: no network judged), by how much the
    ridge was multiplied (``ridge_raised``, the mean over networks) and, where networks are trained, the ``measures`` of
    both. Cost of ``empirical_ntk``: M K products over the set and (M K)^3 / 3.
    Raises: UserError for a set that the kernel does not take, or whose matrix has no factor whatever the ridge.
    """
    check_fits(synthetic, dataset, images=protocol.flip)
    key_fresh, key_trained = jax.random.split(key)
    x_s, y_s = jnp.asarray(synthetic.inputs), jnp.asarray(synthetic.labels)
    if protocol.flip:
        x_s, y_s = mirrored(x_s, y_s)
    if protocol.kernel in EMPIRICAL:
        make = partial(EMPIRICAL[protocol.kernel], model)
        fresh = [model.init(k) for k in jax.random.split(key_fresh, protocol.num_networks)]
    else:
        check_examples("eval", protocol, x_s)
        make, fresh = (lambda _: infinite_kernel(protocol)), [None]

    exact = jax.default_matmul_precision("float32")  # a kernel matrix rounded to 10 bits is indefinite

    @jax.jit
    @exact
    def fit(variables, x_s, y_s):  # arguments: XLA would compute the matrix of constants while it compiles
        k_ss = make(variables).matrix(x_s)
        if protocol.kernel not in EMPIRICAL:
            check_matrix("eval", protocol, k_ss)
        strength, times = ridge.raised(k_ss, protocol.ridge)
        targets = y_s.reshape(len(k_ss), -1).astype(k_ss.dtype)
        return ridge.solve(ridge.factor(k_ss, strength), targets).reshape(y_s.shape), times

    product = jax.jit(exact(lambda variables, x, x_s, alpha: make(variables).product(x, x_s, alpha)))
    accuracies, raised = [], []
    for variables in fresh:
        alpha, times = fit(variables, x_s, y_s)
        if not np.all(np.isfinite(alpha)):
            raise UserError(f"the kernel matrix of the set has no factor with eval.ridge {protocol.ridge}; raise it")
        predict = lambda x, v=variables, a=alpha: product(v, x, x_s, a)
        accuracies.append(_accuracy(predict, dataset, protocol.test_chunk))
        raised.append(times)
    details: dict[str, Any] = {"kernel": protocol.kernel, "ridge_raised": float(np.mean(raised))}
    if protocol.kernel not in EMPIRICAL:  # no network judged
        details["model"] = f"kernel {protocol.kernel}(depth={protocol.depth},ridge={protocol.ridge:g})"
    if protocol.trained_networks:
        plain = standard.Standard(protocol.trained_networks, protocol.num_steps, flip=protocol.flip)
        trained = standard.evaluate(key_trained, synthetic, dataset, model, plain).accuracies
        details["measures"] = {"accuracy, kernel": measure(accuracies), "accuracy, trained networks": measure(trained)}
    return Result(np.array(accuracies), details=details)


def _accuracy(predict: Callable[[jax.Array], jax.Array], dataset: Dataset, chunk: int) -> float:
    inputs, labels = dataset.test.inputs, np.asarray(dataset.test.labels)
    parts = (jnp.asarray(inputs[start : start + chunk]) for start in range(0, len(labels), chunk))
    return float(np.mean(np.concatenate([np.argmax(predict(part), 1) for part in parts]) == labels))


make = KernelRegression
