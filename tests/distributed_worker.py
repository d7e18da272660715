"""One process of a distributed run on the toy data: METHOD PROCESS_ID NUM_PROCESSES PORT WORKDIR NUM_STEPS."""

import sys
from pathlib import Path

import jax

jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 1)
jax.config.update("jax_enable_x64", True)

import numpy as np
import toy
from plugins.pull import Pull

from rcig import lookup, loop, sharding

RCIG = {"batch_size": 16, "pool_size": 2, "pool_max_steps": 2}


def main(name: str, process_id: int, num_processes: int, port: str, workdir: Path, num_steps: int) -> None:
    if num_processes > 1:
        sharding.connect(f"127.0.0.1:{port}", num_processes, process_id)
    assert jax.device_count() == num_processes
    rcig = lookup.find("methods", "rcig").make(toy.model(activation="softplus", depth=1), **RCIG)
    method = {"rcig": rcig, "pull": Pull(toy.model(), batch_size=16)}[name]
    publish = lambda step, synthetic: np.savez(workdir / "set.npz", step=step, **synthetic._asdict())
    loop.run(
        method,
        toy.dataset(),
        toy.synthetic(),
        loop.Schedule(num_steps, steps_per_dispatch=2, checkpoint_every=2),
        workdir,
        sharding.layout(),
        evaluate=lambda step, synthetic: {},
        publish=publish,
    )
    print("done", process_id)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]), int(sys.argv[6]))
