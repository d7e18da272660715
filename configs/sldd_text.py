"""SLDD on texts, the logged runs of the reference (Sucholutsky & Schonlau 2019) that have no config of their own.

python distill_dataset.py --config=configs/sldd_text.py:trec6_120 --workdir=runs/trec6_120
python eval.py --distilled=runs/trec6_120
A cell is the data set, the number of sentences, and ``random`` where any network is to learn from them. Accuracies in
percent, the reference's with GloVe, ours with --config.data.embeddings=imdb+sst5+trec6, on SST-5 also
--config.method.batch_size=256, in one to four minutes of a CPU core, 20 networks where any is to learn.

    cell                  logged            ours            network
    imdb_20_random        74.3 ± 3.0        not run yet     TextConvNet1, 20 of them
    imdb_2_random         69.6 ± 5.5        not run yet     TextConvNet1, 200 of them
    sst5_100              36.8              not run yet     TextRNN1
    sst5_100_random       27.8 ± 2.2        29.8 ± 1.6      TextRNN1, 200 of them
    sst5_5_random         23.4 ± 2.3        23.0 ± 2.3      TextRNN1, 200 of them
    trec6_120             87.8              not run yet     TextLSTM2
    trec6_60              74.2              62.2            TextLSTM1
"""

from configs._families import text

_RNN = dict(dataset="sst5", model="text_rnn", num_steps=1260, halve_every=270, learning_rate=0.01, softmax=True)
_LSTM1 = dict(dataset="trec6", model="text_conv_lstm", inner_rate=1.5)
_LSTM2 = dict(dataset="trec6", model="text_lstm", inner_rate=1.5)
CELLS = {
    "imdb_20_random": lambda: text.imdb(10, 5, 600, 0.01, networks="random"),
    "imdb_2_random": lambda: text.imdb(1, 1, 600, 0.1, networks="random"),
    "sst5_100": lambda: text.get_config(**_RNN, sentences=20, epochs=1, inner_rate=1.5, length=56),
    "sst5_100_random": lambda: text.get_config(
        **_RNN, sentences=20, epochs=3, inner_rate=0.5, networks="random", length=10
    ),
    "sst5_5_random": lambda: text.get_config(
        **_RNN, sentences=1, epochs=1, inner_rate=0.5, networks="random", length=10
    ),
    "trec6_120": lambda: text.get_config(
        **_LSTM2, sentences=20, epochs=2, num_steps=1200, halve_every=180, learning_rate=0.1, length=30
    ),
    "trec6_60": lambda: text.get_config(
        **_LSTM1, sentences=10, epochs=1, num_steps=1260, halve_every=120, learning_rate=0.01, length=50
    ),
}


def get_config(cell: str = "trec6_120"):
    if cell not in CELLS:
        raise ValueError(f"known are {', '.join(CELLS)}")
    return CELLS[cell]()
