"""RCIG on scikit-learn's digits, one image per class: the demo. A minute on 2 CPU cores.

python distill_dataset.py --config=configs/quickstart.py --workdir=runs/quickstart
python eval.py --distilled=runs/quickstart
"""

from configs import rcig


def get_config():
    return rcig.digits(1, 1000)
