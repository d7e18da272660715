"""RaT-BPTT on scikit-learn's digits, 1 image per class, for 2 CPU cores.

python distill_dataset.py --config=configs/rat_digits_ipc1.py --workdir=runs/rat_digits_ipc1
python eval.py --distilled=runs/rat_digits_ipc1
Ours: 92.3 ± 0.8 % (random real 74.3 ± 1.5 %), n = 8; half a minute on one core.
"""

from configs._families import rat_bptt


def get_config():
    return rat_bptt.small("digits", 1, 400)
