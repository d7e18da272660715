"""What the networks share: convolution, norms, activations, pooling, dropout, and the way to a `Model`."""

from collections.abc import Callable
from functools import reduce

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from rcig.errors import UserError, unknown
from rcig.models._conv2d import Padding, conv2d
from rcig.types import Model, Outputs


class Conv(nn.Module):
    """A convolution, at stride 1 unless ``convolve`` says otherwise. x (B,H,W,C) -> (B,H',W',features)."""

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    padding: str | Padding = "SAME"
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros
    convolve: Callable = conv2d
    use_bias: bool = True

    @nn.compact
    def __call__(self, x):
        if self.features < 1:
            raise UserError(f"model.width must be at least 1, not {self.features}")
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)  # also in 64-bit mode: the same draws
        x = self.convolve(x, kernel, self.padding)
        if not self.use_bias:
            return x
        bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
        return x + bias.reshape(1, 1, 1, -1)


def _norms(momentum: float) -> dict[str, Callable[[bool], Callable]]:
    image = (-3, -2, -1)
    return {
        "none": lambda train: lambda x: x,
        "batch": lambda train: nn.BatchNorm(use_running_average=not train, momentum=momentum, epsilon=1e-5),
        "instance": lambda train: nn.GroupNorm(num_groups=None, group_size=1, epsilon=1e-5),
        "group": lambda train: _group_norm,
        "layer": lambda train: nn.LayerNorm(reduction_axes=image, feature_axes=image, epsilon=1e-5),
    }


def _group_norm(x: jax.Array) -> jax.Array:
    if x.shape[-1] % 4:
        raise UserError(f"norm group has 4 groups, which do not divide {x.shape[-1]} channels; choose another width")
    return nn.GroupNorm(num_groups=4, epsilon=1e-5)(x)


def norm_layer(name: str, momentum: float) -> Callable[[bool], Callable]:
    """Return ``train -> layer``. Names: none, batch, instance, group (4 groups), layer (over H, W, C).

    ``momentum`` is Flax's (running = momentum * old + (1 - momentum) * new); PyTorch's 0.1 is 0.9 here.
    Running variances are of the batch itself (PyTorch's are n / (n - 1) times that): at 256 images of 16 pixels 0.02 %.
    """
    norms = _norms(momentum)
    if name not in norms:
        raise unknown("norm", name, norms)
    return norms[name]


@jax.custom_jvp
def _softplus(x, beta):
    return nn.relu(x) + jnp.log(1 + jnp.exp(-beta * jnp.abs(x))) / beta  # log1p is slower, and no better at this scale


@_softplus.defjvp
def _softplus_jvp(primals, tangents):
    x, beta = primals  # beta is a hyperparameter: no derivative
    return _softplus(x, beta), nn.sigmoid(beta * x) * tangents[0]


def activation_fn(name: str, beta: float) -> Callable[[jax.Array], jax.Array]:
    """Return an activation: relu, leaky_relu (0.01), sigmoid, swish, or softplus(beta x) / beta (a smooth relu)."""
    if name == "softplus" and not beta > 0:
        raise UserError(f"model.beta must be positive, not {beta}; model.activation=relu is its limit for large ones")
    known = {
        "relu": nn.relu,
        "leaky_relu": lambda x: nn.leaky_relu(x, 0.01),
        "sigmoid": nn.sigmoid,
        "swish": nn.swish,
        "softplus": lambda x: _softplus(x, beta),
    }
    if name not in known:
        raise unknown("activation", name, known)
    return known[name]


def average_pool(x: jax.Array) -> jax.Array:
    """2x2 average at stride 2; an odd last row or column is dropped. (B,H,W,C) -> (B,H//2,W//2,C)."""
    height, width = x.shape[1] // 2, x.shape[2] // 2
    x = x[:, : 2 * height, : 2 * width].reshape(len(x), height, 2, width, 2, -1)  # (B, H', 2, W', 2, C)
    return jnp.mean(x, (2, 4))  # on a CPU 1.5 times faster than slices, and than reduce_window when differentiated


def pool_layer(name: str) -> Callable[[jax.Array], jax.Array]:
    """Return a 2x2 pooling at stride 2: average, max, or none (the image keeps its size)."""
    known = {"average": average_pool, "max": lambda x: max_pool(x, 2, 2), "none": lambda x: x}
    if name not in known:
        raise unknown("pooling", name, known)
    return known[name]


def max_pool(x: jax.Array, window: int, stride: int, pad: int = 0) -> jax.Array:
    """Maximum over windows, padded by -inf on every side. (B,H,W,C) -> (B,(H+2*pad-window)//stride+1,W',C).

    Rows first, then columns, as a chain of choices: when differentiated on a CPU, once or twice, 2-3 times faster than
    reduce_window, and where windows tile the image than jnp.max. Of equals the first takes the derivative.
    """
    tiled = window == stride and not pad
    x = x if tiled else jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), constant_values=-jnp.inf)
    for axis in (1, 2):
        if tiled:
            whole = x.shape[axis] // stride
            x = lax.slice_in_dim(x, 0, stride * whole, 1, axis)
            x = x.reshape(*x.shape[:axis], whole, stride, *x.shape[axis + 1 :])
            parts = [lax.index_in_dim(x, start, axis + 1, keepdims=False) for start in range(stride)]
        else:
            last = x.shape[axis] - window + 1
            parts = [lax.slice_in_dim(x, start, start + last, stride, axis) for start in range(window)]
        x = reduce(lambda a, b: jnp.where(b > a, b, a), parts)  # jnp.maximum is 2 times slower at the second order
    return x


def dropout(module: nn.Module, rate: float, train: bool, whole: bool = False) -> nn.Dropout:
    """Return the dropout layer of ``module``: active when training with a key. Call inside a compact module.

    ``whole``: what is dropped is an image's whole tensor (stochastic depth).
    """
    if not 0 <= rate < 1:
        raise UserError(f"model.{'drop_path' if whole else 'dropout'} must be at least 0 and below 1, not {rate}")
    return nn.Dropout(rate, (1, 2, 3) if whole else (), deterministic=not (train and module.has_rng("dropout")))


def depth_for(example_shape: tuple[int, ...], depth: int) -> int:
    """Return the number of blocks: ``depth``, or for 0 by resolution (8:1, 16:2, 28 and 32:3, 64:4, 128:5)."""
    if len(example_shape) != 3:
        raise UserError(
            f"a ConvNet wants images (H, W, C), not examples {example_shape}; choose another model, or add the channels"
        )
    side = min(example_shape[:2])
    depth = depth or max(1, (side - 1).bit_length() - 2)
    if first_side(example_shape) >> depth < 1:
        raise UserError(
            f"model.depth {depth} halves a {side}-pixel image to nothing; "
            f"choose at most {first_side(example_shape).bit_length() - 1}"
        )
    return depth


def first_padding(example_shape: tuple[int, ...], kernel_size: int = 3) -> str | Padding:
    """Return the first layer's padding: 28-pixel grey images are padded to 32 pixels, as in the references."""
    pad = 2 + kernel_size // 2
    return ((pad, pad), (pad, pad)) if tuple(example_shape) == (28, 28, 1) else "SAME"


def first_side(example_shape: tuple[int, ...]) -> int:
    """Return the side of the first layer's output."""
    return 32 if tuple(example_shape) == (28, 28, 1) else min(example_shape[:2])


def check_images(name: str, example_shape: tuple[int, ...], side: int) -> None:
    """Raise UserError unless examples are images at least ``side`` pixels wide after the first layer."""
    if len(example_shape) != 3 or first_side(example_shape) < side:
        raise UserError(
            f"{name} wants images of at least {side} pixels, not examples {tuple(example_shape)}; "
            "choose mlp or dc_convnet"
        )


def as_model(module: nn.Module, example_shape: tuple[int, ...]) -> Model:
    """Return a linen module ``(inputs, train) -> Outputs`` as two pure functions; the key is for dropout."""

    def init(key):
        return dict(module.init(key, jnp.zeros((1, *example_shape), jnp.float32), False))

    def apply(variables, inputs, train, key):
        rngs = {} if key is None else {"dropout": key}
        if not (train and "batch_stats" in variables):
            return module.apply(variables, inputs, train, rngs=rngs), variables
        outputs, updated = module.apply(variables, inputs, train, rngs=rngs, mutable=["batch_stats"])
        return outputs, {**variables, **updated}

    return Model(init, apply)


def outputs(x: jax.Array, num_classes: int, **head_options) -> Outputs:
    """Flatten to features and append the last dense layer, named ``head`` (call inside a compact module)."""
    features = x.reshape(len(x), -1)
    return Outputs(nn.Dense(num_classes, name="head", **head_options)(features), features)
