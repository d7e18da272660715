"""Distil a data set: flags -> config -> one call."""

import shlex

from rcig import command

EXAMPLES = """
examples:
  python distill_dataset.py --config=configs/quickstart.py --workdir=runs/quickstart
  python distill_dataset.py --config=configs/rcig_mnist_ipc1_cpu.py --workdir=runs/mnist --config.data_dir=DIR
  python distill_dataset.py --config=quickstart --workdir=runs/mine --config.dataset=npz --config.data.path=mine.npz
  python distill_dataset.py --config=quickstart --workdir=runs/small --config.num_steps=100 --config.method.flip=True

The same command again goes on where it was stopped, or with a larger num_steps from where it ended. The workdir holds
  distilled/       the distilled set and its card (python eval.py --distilled=WORKDIR measures it)
  images/          pictures of the set and of its loss
  metrics.jsonl    one JSON object a line
  config.json      every field as run: see configs/default.py and methods/<name>.py for their meanings
  checkpoints/     what a stopped run goes on from

several hosts: start the same command on each; SLURM, Open MPI and TPU slices that name their hosts in the environment
are recognised; Kubernetes and Cloud TPU with --coordinator=auto, elsewhere add
  --coordinator=HOST:PORT --num_processes=N --process_id=I
"""


def main() -> None:
    parser = command.parser(__doc__, EXAMPLES)
    parser.add_argument("--config", required=True, help="a config file, or the name of one in configs/")
    parser.add_argument("--workdir", required=True, type=command.place, help="folder for all that the run leaves")
    parser.add_argument("--coordinator", default="", help="HOST:PORT of process 0, or auto")
    parser.add_argument("--num_processes", type=int, default=0)
    parser.add_argument("--process_id", type=int, default=-1)
    flags, overrides = parser.parse_known_args()
    command.tune_allocator()

    from rcig import cluster, experiment, sharding
    from rcig import config as configs

    config = configs.load(flags.config, overrides)
    command.set_up_jax(config.precision, config.x64)
    if not cluster.connect(flags.coordinator, flags.num_processes, flags.process_id):
        command.one_device_a_core()
    experiment.distill(config, flags.workdir)
    if sharding.is_writer():
        print(f"finished at step {config.num_steps}: pictures in {flags.workdir}/images")
        print(f"to measure it: python eval.py --distilled={shlex.quote(str(flags.workdir))}")


if __name__ == "__main__":
    command.main(main)
