"""ResNet: basic blocks in four stages of 1, 2, 4, 8 times the width, for images of 28, 32 or 64 pixels.

He et al. 2016 as DC has it (Zhao et al. 2021, the published networks.py): a 3x3 convolution at stride 1 before the
stages, a norm after every convolution (instance norm, in ResNet18BN batch norm), convolutions without bias, a 1x1
convolution as shortcut where the shape changes. With downsampling

    stride    the first convolution and the shortcut of stages 2-4 have stride 2; 4x4 average pooling before the head
    average   ("AP") they have stride 1, 2x2 average pooling follows: after the first ReLU, and in the shortcut before
              its norm; no pooling before the head

Kernels are U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default. At 32x32x3 and 10 classes ResNet18 has 11,173,962
parameters and 512 features, AP 11,250,762 and 8192. The reference stops at 32 pixels; 64 only widen the head.
"""

from collections.abc import Callable
from functools import partial

from flax import linen as nn

from rcig.errors import UserError, unknown
from rcig.models._conv2d import conv2d
from rcig.models._initializers import layer_initializers
from rcig.models._layers import Conv, as_model, average_pool, check_images, norm_layer, outputs
from rcig.models._strided import strided_conv2d
from rcig.types import Model

_BLOCKS = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}  # of each stage
_PADDING = ((1, 1), (1, 1))
_SAME = (conv2d, lambda x: x, lambda x: x)
_HALVES = {  # how a block halves the image: the first convolution, what follows its ReLU, what precedes the shortcut
    "stride": (partial(strided_conv2d, stride=2), lambda x: x, lambda x: x[:, ::2, ::2]),  # 1x1 at stride 2: a pixel
    "average": (conv2d, average_pool, average_pool),  # a 1x1 convolution and an average commute: the cheap order
}


class Block(nn.Module):
    width: int
    norm: Callable[[], Callable]
    halve: tuple[Callable, Callable, Callable]

    @nn.compact
    def __call__(self, x):
        convolve, after, before_shortcut = self.halve
        y = after(nn.relu(self.norm()(_conv(x, self.width, convolve=convolve))))
        y = self.norm()(_conv(y, self.width))
        if x.shape != y.shape:
            x = self.norm()(_conv(before_shortcut(x), self.width, kernel_size=(1, 1), padding="VALID"))
        return nn.relu(x + y)


class ResNet(nn.Module):
    num_classes: int
    width: int
    blocks: tuple[int, ...]
    norm: Callable
    downsampling: str

    @nn.compact
    def __call__(self, x, train):
        norm = partial(self.norm, train)
        x = nn.relu(norm()(_conv(x, self.width)))
        for stage, blocks in enumerate(self.blocks):
            for block in range(blocks):
                halve = _HALVES[self.downsampling] if stage and not block else _SAME
                x = Block(self.width * 2**stage, norm, halve)(x)
        x = average_pool(average_pool(x)) if self.downsampling == "stride" else x
        return outputs(x, self.num_classes, **layer_initializers("default")(x[0].size))


def _conv(x, width, kernel_size=(3, 3), padding=_PADDING, convolve=conv2d):
    """Convolve without bias (call inside a compact module)."""
    init = layer_initializers("default")(kernel_size[0] * kernel_size[1] * x.shape[-1])
    return Conv(width, kernel_size, padding, convolve=convolve, use_bias=False, **init)(x)


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    depth: int = 18,  # layers with weights: 10, 18, 34
    width: int = 64,  # channels of the first stage
    norm: str = "instance",
    norm_momentum: float = 0.9,  # PyTorch's 0.1
    downsampling: str = "stride",
) -> Model:
    """Make the network."""
    if depth not in _BLOCKS:
        raise UserError(f"model.depth of resnet must be one of {', '.join(map(str, _BLOCKS))}, not {depth}")
    if downsampling not in _HALVES:
        raise unknown("downsampling", downsampling, _HALVES)
    check_images("resnet", example_shape, 28)
    module = ResNet(num_classes, width, _BLOCKS[depth], norm_layer(norm, norm_momentum), downsampling)
    return as_model(module, example_shape)
