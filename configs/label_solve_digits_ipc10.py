"""Label solve, digits, 10 real images per class, fully connected kernel.

python distill_dataset.py --config=configs/label_solve_digits_ipc10.py --workdir=runs/label_solve_digits_ipc10
python eval.py --distilled=runs/label_solve_digits_ipc10
"""

from configs._families import kernel


def get_config():
    return kernel.label_solve("digits", 10, batch_size=1000)
