"""RCIG on scikit-learn's digits, ten images per class.

python distill_dataset.py --config=configs/rcig_digits_ipc10.py --workdir=runs/digits_ipc10
python eval.py --distilled=runs/digits_ipc10
"""

from configs import rcig


def get_config():
    return rcig.digits(10, 300)
