"""The command `python -m rcig.pretrain`: train a pool of networks."""

import numpy as np

from rcig import command

EXAMPLES = """
examples:
  python -m rcig.pretrain --config=configs/pretrain_usps.py --workdir=runs/usps_pool
  python -m rcig.pretrain --config=configs/pretrain_usps.py --workdir=runs/usps_held_out --config.seed=1

The same command again goes on where it was stopped. The workdir then holds checkpoints/ (the networks), config.json and
pool.json (the test accuracy of each).
"""


def main() -> None:
    parser = command.parser("Train a pool of networks.", EXAMPLES, "python -m rcig.pretrain")
    parser.add_argument("--config", required=True, help="a config file, or the name of one in configs/")
    parser.add_argument("--workdir", required=True, type=command.place, help="folder for the pool")
    flags, overrides = parser.parse_known_args()
    command.tune_allocator()

    from rcig import config as configs
    from rcig.pretrain import pretrain

    config = configs.load(flags.config, overrides)
    command.set_up_jax(config.precision, config.x64)
    command.one_device_a_core()
    accuracies = np.array(pretrain(config, flags.workdir))
    print(
        f"{len(accuracies)} networks in {flags.workdir}: test accuracy {100 * accuracies.mean():.1f} % "
        f"± {100 * accuracies.std():.1f}"
    )


if __name__ == "__main__":
    command.main(main)
