"""RaT-BPTT on scikit-learn's digits, 10 images per class, for 2 CPU cores.

python distill_dataset.py --config=configs/rat_digits_ipc10.py --workdir=runs/rat_digits_ipc10
python eval.py --distilled=runs/rat_digits_ipc10
Ours: 97.2 ± 0.4 % (random real 93.1 ± 0.5 %), n = 8; two minutes on one core.
"""

from configs._families import rat_bptt


def get_config():
    return rat_bptt.small("digits", 10, 400)
