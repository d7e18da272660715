"""What distillation of texts has in common; configs/sldd_{imdb,trec6,trec50,sst5}_*.py are its cells.

Sucholutsky & Schonlau 2019, "Soft-Label Dataset Distillation and Text Dataset Distillation": sentences are matrices of
word vectors, learned with their labels for one known network or for fresh ones. The published runs look words up in
GloVe (``--config.data.embeddings=glove.6B.100d.txt``); without, vectors are trained on the training split, and the
accuracy on all data, to compare with, is lower too. Two classes are two logits here, one there.
"""

from ml_collections import ConfigDict

from configs._families import bptt


def get_config(
    dataset: str,
    model: str,
    sentences: int,
    epochs: int,
    num_steps: int,
    halve_every: int,
    learning_rate: float,
    inner_rate: float,
    networks: str = "fixed",
    length: int = 0,
    softmax: bool = False,
) -> ConfigDict:
    """``sentences`` for each class, all shown in every one of ``epochs`` steps."""
    config = bptt.soft(dataset, networks, steps=1, num_steps=num_steps, inner_rate=inner_rate, model=model)
    config.preprocessing, config.ipc, config.data.length = "default", sentences, length
    config.method.update(epochs=epochs, learning_rate=learning_rate, halve_every=halve_every, label_softmax=softmax)
    config.steps_per_dispatch, config.checkpoint_every = 20, 200
    return config


def imdb(sentences: int, epochs: int, num_steps: int, learning_rate: float, networks: str = "fixed") -> ConfigDict:
    """IMDB, TextConvNet1; for a CPU 10,000 words, 200 a review, fewer batches, of 256 (30,000, 400, 2,500 of 1,024)."""
    halve_every = max(num_steps // 10, 1)
    config = get_config(
        *("imdb", "text_convnet", sentences, epochs, num_steps, halve_every, learning_rate, 0.01, networks), length=200
    )
    config.method.update(batch_size=256, rows_at_once=64)
    return config
