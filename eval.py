"""Measure a distilled set with fresh networks: flags -> config -> one call."""

import json
import warnings

from rcig import command
from rcig.errors import UserError

EXAMPLES = """
examples:
  python eval.py --distilled=runs/quickstart
  python eval.py --distilled=checkpoints/rcig_mnist_ipc1 --config.eval.num_networks=20
  python eval.py --distilled=runs/quickstart --config.eval.model.name=dc_convnet --full_data_steps=3000
  python eval.py --distilled=runs/quickstart --config.eval.preset=dc
  python eval.py --distilled=runs/quickstart --protocol=nearest --baselines=real,average,kmeans,noise
  python eval.py --distilled=runs/quickstart --baselines=real,herding,k_center,forgetting,kmeans
  python eval.py --distilled=cifar10_1/checkpoint_15000 --format=rcig --config.dataset=cifar10 --config.eval.flip=True

The distilled set brings its own config; --config.FIELD=VALUE changes it. The table is for people; the last line of
stdout is one JSON object, which also goes to <workdir>/eval-<protocol>.json.
"""


def main() -> None:
    parser = command.parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--distilled", required=True, type=command.place, help="a workdir, a distilled/ folder or a file"
    )
    parser.add_argument("--protocol", default="", help="how to evaluate; default: the config's")
    parser.add_argument(
        "--format",
        default="",
        help="of a set made elsewhere: rcig, frepo, vico, mtt, idc, idc_i, kip, npz, safetensors",
    )
    parser.add_argument("--config", default="", help="config file, for sets that bring none")
    parser.add_argument("--full_data_steps", type=int, default=0, help="also train on the whole training set, so long")
    parser.add_argument(
        "--baselines",
        default="real",
        help="what to compare with beside real: optimised, herding, k_center, forgetting, average, ...; empty: nothing",
    )
    flags, overrides = parser.parse_known_args()
    command.tune_allocator()

    from rcig import measure, report

    if flags.protocol:
        overrides.append(f"--config.eval.protocol={flags.protocol}")
    distilled, config, dataset = command.open_set(flags.distilled, flags.format, flags.config, overrides)
    baselines = [name for name in flags.baselines.split(",") if name]
    kept = report.kept(config.eval, flags.distilled)
    result = measure.evaluate(distilled, config, dataset, flags.full_data_steps, baselines, **kept)
    try:
        report.save(result, flags.distilled, distilled.card["arrays"])
    except UserError as error:  # what was measured is still said
        warnings.warn(f"the result is not kept: {error}", stacklevel=2)
    print(report.table(result))
    print(json.dumps(result))


if __name__ == "__main__":
    command.main(main)
