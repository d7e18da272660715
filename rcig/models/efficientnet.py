"""EfficientNet (Tan & Le 2019) as torchvision has it: a student of the soft-label papers.

Inverted residuals with 3x3 and 5x5 kernels, SiLU and batch norm, each with a gate on its channels (squeeze and
excitation: global means, a quarter of the block's input channels, a sigmoid) and, in training, left out at random
image by image (stochastic depth: 0 at the first block, rising linearly towards ``drop_path``). 1280 features by global
pooling, dropout 0.2 before the head. B0 at 224x224x3, 1000 classes: 5,288,548 parameters.

With ``stem`` small the first convolution and the stage after the first have stride 1, for images of 32 or 64 pixels.
"""

from collections.abc import Callable
from functools import partial

from flax import linen as nn

from rcig.errors import UserError
from rcig.models._inverted_residual import INIT, blocks, channels_near, check_stem, convolution, inverted_residual
from rcig.models._layers import as_model, dropout, norm_layer, outputs
from rcig.types import Model

_STAGES = (  # expand, kernel size, channels, blocks, stride
    (1, 3, 16, 1, 1),
    (6, 3, 24, 2, 2),
    (6, 5, 40, 2, 2),
    (6, 3, 80, 3, 2),
    (6, 5, 112, 3, 1),
    (6, 5, 192, 4, 2),
    (6, 3, 320, 1, 1),
)


class Gate(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): every channel times a sigmoid of all channels' means."""

    reduced: int

    @nn.compact
    def __call__(self, x):
        dense = partial(nn.Dense, kernel_init=INIT)
        gate = nn.silu(dense(self.reduced)(x.mean((1, 2))))
        return x * nn.sigmoid(dense(x.shape[-1])(gate))[:, None, None]


class EfficientNet(nn.Module):
    num_classes: int
    width: float
    depth: float
    stem: str
    norm: Callable
    dropout: float
    drop_path: float

    @nn.compact
    def __call__(self, x, train):
        norm = partial(self.norm, train)
        stride = 2 if self.stem == "large" else 1
        x = nn.silu(norm()(convolution(x, channels_near(32 * self.width), 3, stride)))
        made = blocks(_STAGES, self.stem, self.depth)
        for number, (channels, shape) in enumerate(made):
            gate = Gate(max(1, x.shape[-1] // 4))
            drop = dropout(self, self.drop_path * number / len(made), train, whole=True)
            channels = channels_near(channels * self.width)
            x = inverted_residual(x, channels, norm, nn.silu, **shape, squeeze=gate, drop=drop)
        x = nn.silu(norm()(convolution(x, 4 * x.shape[-1])))
        x = dropout(self, self.dropout, train)(x.mean((1, 2)))
        return outputs(x, self.num_classes, kernel_init=_head_init)


_head_init = nn.initializers.variance_scaling(1 / 3, "fan_out", "uniform")  # U(-1/sqrt(K), 1/sqrt(K))


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: float = 1.0,  # times the channels
    depth: float = 1.0,  # times the blocks of a stage, rounded up
    stem: str = "small",  # or large, for 224 pixels
    norm: str = "batch",
    norm_momentum: float = 0.9,  # PyTorch's 0.1
    dropout: float = 0.2,
    drop_path: float = 0.2,
) -> Model:
    """Make the network; width 1, depth 1 is B0."""
    check_stem("efficientnet", example_shape, stem)
    if not (width > 0 and depth > 0):
        raise UserError(
            f"model.width and model.depth of efficientnet must be positive, not {width}, {depth}; 1, 1 is B0"
        )
    parts = width, depth, stem, norm_layer(norm, norm_momentum), dropout, drop_path
    return as_model(EfficientNet(num_classes, *parts), example_shape)
