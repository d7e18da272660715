"""Networks by the names of the papers' command lines, such as ``ConvNetW32`` or ``ResNet18BN_AP``.

A name is a family (`_FAMILIES`), then endings (`_ENDINGS`) that change its options; ``ConvNetD2W16BN`` is one too.
What they leave open is the network's default: for the ConvNet width 128, a depth by resolution (3 blocks at 28 and 32
pixels, 4 at 64), instance norm, ReLU, average pooling. Zhao et al. 2021, the published utils.py.
"""

import inspect
import re
from typing import Any

from rcig.errors import unknown
from rcig.lookup import find, names

Options = dict[str, Any]

_FAMILIES: dict[str, tuple[str, Options]] = {
    "ConvNet": ("dc_convnet", {}),
    "MLP": ("mlp", {}),
    "LeNet": ("lenet", {"init": "default"}),
    "AlexNet": ("dc_alexnet", {}),
    "EfficientNetB0": ("efficientnet", {"width": 1.0, "depth": 1.0}),  # factors, no channels: no ending changes them
    "MobileNetV2": ("mobilenet_v2", {"width": 1.0}),
    **{f"VGG{depth}": ("vgg", {"depth": depth}) for depth in (11, 13, 16, 19)},
    **{f"ResNet{depth}": ("resnet", {"depth": depth}) for depth in (10, 18, 34)},
}
_ENDINGS: dict[str, tuple[str, str]] = {
    "ASwish": ("activation", "swish"),
    "AS": ("activation", "sigmoid"),
    "AR": ("activation", "relu"),
    "AL": ("activation", "leaky_relu"),
    "NN": ("norm", "none"),
    "BN": ("norm", "batch"),
    "LN": ("norm", "layer"),
    "IN": ("norm", "instance"),
    "GN": ("norm", "group"),
    "NP": ("pooling", "none"),
    "MP": ("pooling", "max"),
    "AP": ("pooling", "average"),
    "_AP": ("downsampling", "average"),
}
_NUMBERS = {"D": "depth", "W": "width"}

POOLS: dict[str, tuple[str, ...]] = {  # the evaluation pools of DC's command line
    "M": ("MLP", "ConvNet", "LeNet", "AlexNet", "VGG11", "ResNet18"),
    "B": ("ConvNetBN", "ConvNetASwishBN", "AlexNetBN", "VGG11BN", "ResNet18BN"),
    "W": ("ConvNetW32", "ConvNetW64", "ConvNetW128", "ConvNetW256"),
    "D": ("ConvNetD1", "ConvNetD2", "ConvNetD3", "ConvNetD4"),
    "A": ("ConvNetAS", "ConvNetAR", "ConvNetAL", "ConvNetASwish"),
    "P": ("ConvNetNP", "ConvNetMP", "ConvNetAP"),
    "N": ("ConvNetNN", "ConvNetBN", "ConvNetLN", "ConvNetIN", "ConvNetGN"),
}
_KNOWN = {*(name for pool in POOLS.values() for name in pool), *_FAMILIES, "ResNet18_AP", "ResNet18BN_AP"}
_ENDING = re.compile(rf"{'|'.join(_ENDINGS)}|[DW][1-9][0-9]*")
_NAME = re.compile(rf"({'|'.join(_FAMILIES)})((?:{_ENDING.pattern})*)")


def network(name: str) -> tuple[str, Options]:
    """Return (plug-in of rcig/models, options of its ``make``) of a network by its name in the papers, or its file's.

    Raises: UserError that lists the known names, for an unknown one, for an ending that its family does not have, and
    for two endings that contradict each other.
    """
    if name in names("rcig.models"):
        return name, {}
    match = _NAME.fullmatch(name)
    if match is None:
        raise unknown("network", name, _KNOWN)
    plugin, options = _FAMILIES[match[1]]
    has = inspect.signature(find("rcig.models", plugin).make).parameters
    for ending in _ENDING.findall(match[2]):
        option, value = _option(ending)
        if option in options or option not in has:
            raise unknown("network", name, _KNOWN)
        options = options | {option: value}
    return plugin, options


def _option(ending: str) -> tuple[str, str | int]:
    return _ENDINGS[ending] if ending in _ENDINGS else (_NUMBERS[ending[0]], int(ending[1:]))
