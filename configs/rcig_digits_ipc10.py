"""RCIG on scikit-learn's digits, ten images per class.

python distill_dataset.py --config=configs/rcig_digits_ipc10.py --workdir=runs/digits_ipc10
python eval.py --distilled=runs/digits_ipc10
Ours: 98.9 ± 0.3 % (n = 10 networks; random real 93.8 ± 0.8 %), checkpoints/rcig_digits_ipc10; two minutes on 2 cores.
"""

from configs._families import rcig


def get_config():
    return rcig.digits(10, 300)
