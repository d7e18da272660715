"""RCIG on scikit-learn's digits, one image per class: the demo. A minute on 2 CPU cores.

python distill_dataset.py --config=configs/quickstart.py --workdir=runs/quickstart
python eval.py --distilled=runs/quickstart
Ours: 93.4 ± 0.9 % (n = 10 networks; random real 61.7 ± 6.7 %), checkpoints/rcig_digits_ipc1.
"""

from configs._families import rcig


def get_config():
    return rcig.digits(1, 1000)
