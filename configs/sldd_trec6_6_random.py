"""SLDD, TREC-6, six sentences for any TextLSTM2 (a logged run of the reference: 62.0 ± 8.8 %, 200 networks, GloVe).

python distill_dataset.py --config=configs/sldd_trec6_6_random.py --workdir=runs/sldd_trec6_6_random
python eval.py --distilled=runs/sldd_trec6_6_random --config.eval.num_networks=200
Ours in five minutes on one CPU core, with --config.num_steps=600 --config.method.halve_every=120
--config.method.batch_size=128: 64.0 ± 5.8 % of 20 networks (random real 34.6 ± 2.2), own word vectors.
"""

from configs._families import text


def get_config():
    return text.get_config(
        "trec6", "text_lstm", 1, 2, 1200, 180, learning_rate=0.1, inner_rate=1.5, networks="random", length=30
    )
