"""ResNet: blocks in stages of 1, 2, 4, 8 times the width, in the forms of DC and of torchvision (He et al. 2016).

By default as DC has it (Zhao et al. 2021, the published networks.py), for images of 28, 32 or 64 pixels: a 3x3
convolution at stride 1 before the stages, a norm after every convolution (instance norm, in ResNet18BN batch norm),
convolutions without bias, a 1x1 convolution as shortcut where the shape changes. With downsampling

    stride    the first convolution and the shortcut of stages 2-4 have stride 2; 4x4 average pooling before the head
    average   ("AP") they have stride 1, 2x2 average pooling follows: after the first ReLU, and in the shortcut before
              its norm; no 4x4 pooling before the head

Kernels are U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default. At 32x32x3 and 10 classes ResNet18 has 11,173,962
parameters and 512 features, AP 11,250,762 and 8192. The reference stops at 32 pixels; 64 only widen the head.

The soft-label papers' (SRe2L, LPLD, RDED) have head_pooling global, norm batch, kernels by kaiming_out: with stem large
(7x7 at stride 2, 3x3 max pooling at stride 2; every padding explicit, as torchvision's) ResNet18 has 11,689,512
parameters at 1000 classes, with stem small 11,271,432 at 200. Depths 50 and 101 have bottleneck blocks, whose stride is
in the 3x3 convolution. Fewer stages make a small network: depth 10, two stages, width 16 is 6 norms and 16 to 32
channels, for images of 8 pixels.
"""

from collections.abc import Callable
from functools import partial

from flax import linen as nn

from rcig.errors import UserError, unknown
from rcig.models._conv2d import conv2d
from rcig.models._initializers import layer_initializers
from rcig.models._layers import Conv, as_model, average_pool, check_images, max_pool, norm_layer, outputs
from rcig.models._strided import strided_conv2d
from rcig.types import Model

_BLOCKS = {  # of each stage
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
}
_SAME = (conv2d, lambda x: x, lambda x: x)
_HALVES = {  # how a block halves the image: the first convolution, what follows its ReLU, what precedes the shortcut
    "stride": (partial(strided_conv2d, stride=2), lambda x: x, lambda x: x[:, ::2, ::2]),  # 1x1 at stride 2: a pixel
    "average": (conv2d, average_pool, average_pool),  # a 1x1 convolution and an average commute: the cheap order
}
_HEAD_POOLINGS = {"4x4": lambda x: average_pool(average_pool(x)), "global": lambda x: x.mean((1, 2))}


class Block(nn.Module):
    width: int
    norm: Callable[[], Callable]
    convolution: Callable
    halve: tuple[Callable, Callable, Callable]

    @nn.compact
    def __call__(self, x):
        convolve, after, before_shortcut = self.halve
        y = after(nn.relu(self.norm()(self.convolution(x, self.width, convolve=convolve))))
        y = self.norm()(self.convolution(y, self.width))
        if x.shape != y.shape:
            x = self.norm()(self.convolution(before_shortcut(x), self.width, 1))
        return nn.relu(x + y)


class Bottleneck(nn.Module):
    width: int  # of the 3x3 convolution; four times as many channels leave the block
    norm: Callable[[], Callable]
    convolution: Callable
    halve: tuple[Callable, Callable, Callable]

    @nn.compact
    def __call__(self, x):
        convolve, after, before_shortcut = self.halve
        y = nn.relu(self.norm()(self.convolution(x, self.width, 1)))
        y = after(nn.relu(self.norm()(self.convolution(y, self.width, convolve=convolve))))
        y = self.norm()(self.convolution(y, 4 * self.width, 1))
        if x.shape != y.shape:
            x = self.norm()(self.convolution(before_shortcut(x), 4 * self.width, 1))
        return nn.relu(x + y)


class ResNet(nn.Module):
    num_classes: int
    width: int
    blocks: tuple[int, ...]
    block: Callable
    norm: Callable
    convolution: Callable
    downsampling: str
    stem: str
    head_pooling: str

    @nn.compact
    def __call__(self, x, train):
        norm = partial(self.norm, train)
        size, convolve = (7, partial(strided_conv2d, stride=2)) if self.stem == "large" else (3, conv2d)
        x = nn.relu(norm()(self.convolution(x, self.width, size, convolve=convolve)))
        x = max_pool(x, 3, 2, 1) if self.stem == "large" else x
        for stage, blocks in enumerate(self.blocks):
            for number in range(blocks):
                halve = _HALVES[self.downsampling] if stage and not number else _SAME
                x = self.block(self.width * 2**stage, norm, self.convolution, halve)(x)
        if self.downsampling == "stride" or self.head_pooling == "global":
            x = _HEAD_POOLINGS[self.head_pooling](x)
        return outputs(x, self.num_classes, **layer_initializers("default")(x[0].size))


def _conv(init, x, width, size=3, convolve=conv2d):
    """Convolve without bias, padded as if at stride 1 (call inside a compact module)."""
    pad = (size // 2, size // 2)
    options = layer_initializers(init, 0.0)(size * size * x.shape[-1])  # 0: the slope of a ReLU
    return Conv(width, (size, size), (pad, pad), convolve=convolve, use_bias=False, **options)(x)


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int = 18,  # layers with weights: 10, 18, 34, 50, 101
    width: int = 64,  # channels of the first stage
    norm: str = "instance",
    norm_momentum: float = 0.9,  # PyTorch's 0.1
    downsampling: str = "stride",
    stem: str = "small",  # or large, for 224 pixels
    stages: int = 4,
    head_pooling: str = "4x4",  # or global
    init: str = "default",  # of the kernels but the head's; kaiming_out: N(0, 2 / fan_out), torchvision's
) -> Model:
    """Make the network."""
    if depth not in _BLOCKS:
        raise UserError(f"model.depth of resnet must be one of {', '.join(map(str, _BLOCKS))}, not {depth}")
    if not 1 <= stages <= 4:
        raise UserError(f"model.stages of resnet must lie in 1..4, not {stages}")
    for option, value, known in (
        ("downsampling", downsampling, _HALVES),
        ("stem", stem, ("small", "large")),
        ("head_pooling", head_pooling, _HEAD_POOLINGS),
        ("init", init, ("default", "kaiming_out")),
    ):
        if value not in known:
            raise unknown(option, value, known)
    halvings = stages - 1 + 2 * (stem == "large")
    check_images("resnet", example_shape, 2**halvings if head_pooling == "global" else 28)
    block = Bottleneck if depth >= 50 else Block
    parts = (_BLOCKS[depth][:stages], block, norm_layer(norm, norm_momentum), partial(_conv, init))
    return as_model(ResNet(num_classes, width, *parts, downsampling, stem, head_pooling), example_shape)
