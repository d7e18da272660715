"""SLDD, TREC-6, six sentences for one fixed TextLSTM2 (a logged run of the reference: 87.4 %, with GloVe).

python distill_dataset.py --config=configs/sldd_trec6_6.py --workdir=runs/sldd_trec6_6
python eval.py --distilled=runs/sldd_trec6_6
Ours in 5 minutes on one CPU core, word vectors from the training split, with --config.num_steps=500
--config.method.halve_every=100 --config.method.batch_size=128: 80.8 %, checkpoints/sldd_trec6_6. With
vectors of IMDB's reviews (python -m rcig.data vectors imdb imdb.txt --vocabulary=30000;
--config.data.embeddings=imdb.txt), num_steps=1000, halve_every=180, batch_size=256, in 8 minutes: 85.6 % (random real
37.6 %). All data, either vectors: 85.7 ± 0.6 and 88.2 ± 0.7 % (as for TREC-50, --full_data_steps=1200). What one fixed
network learns hangs on the vectors by chance, too: of more words of the same reviews, --config.data.embeddings=imdb,
82.4 % (random real 33.5 ± 10.5 %, five draws); imdb+sst5+trec6, 1,200 steps, 81.2 %.
"""

from configs._families import text


def get_config():
    return text.get_config("trec6", "text_lstm", 1, 2, 1200, 180, learning_rate=0.1, inner_rate=1.5, length=30)
