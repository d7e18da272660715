"""RaT-BPTT on scikit-learn's digits, 1 image per class, for 2 CPU cores.

python distill_dataset.py --config=configs/rat_digits_ipc1.py --workdir=runs/rat_digits_ipc1
python eval.py --distilled=runs/rat_digits_ipc1
"""

from configs._families import rat_bptt


def get_config():
    return rat_bptt.small("digits", 1, 400)
