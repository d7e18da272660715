"""Text LSTM: a bidirectional recurrent network with long short-term memory, two layers.

As Sucholutsky and Schonlau 2019 (soft labels) train it on embedded sentences: Xavier-normal kernels, zero biases, no
dropout while distilling. At embedding 100: 403,200 parameters and 201 for each class; 200 features.
"""

from rcig.models._recurrent import LSTM, bidirectional
from rcig.types import Model


def make(
    example_shape: tuple[int, ...],
    num_classes: int,
    *,
    width: int = 100,  # of the hidden vector of each direction
    depth: int = 2,  # layers
    dropout: float = 0.0,  # of every layer's inputs and of the features; 0.5 in training on real text
    init: str = "xavier",  # see rcig/models/_initializers.py
    init_param: float = 1.0,
) -> Model:
    """Make the network for sentences (L, E)."""
    return bidirectional("text_lstm", LSTM, example_shape, num_classes, width, depth, dropout, init, init_param)
