"""RCIG on scikit-learn's digits, one image per class: the demo. A minute on 2 CPU cores.

python distill_dataset.py --config=configs/quickstart.py --workdir=runs/quickstart
python eval.py --distilled=runs/quickstart
Ours: 92.8 ± 1.1 % (n = 10 networks; random real 63.0 ± 3.2 %), checkpoints/rcig_digits_ipc1.
"""

from configs._families import rcig


def get_config():
    return rcig.digits(1, 1000)
