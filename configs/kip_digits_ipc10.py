"""KIP, digits, 10 image(s) per class, fully connected kernel, learned labels.

python distill_dataset.py --config=configs/kip_digits_ipc10.py --workdir=runs/kip_digits_ipc10
python eval.py --distilled=runs/kip_digits_ipc10
"""

from configs._families import kernel


def get_config():
    return kernel.kip("digits", 10, learn_labels=True)
