"""One process of a distributed run on the toy data: METHOD PROCESS_ID NUM_PROCESSES PORT WORKDIR NUM_STEPS BYTES."""

import sys
from pathlib import Path

import jax
import numpy as np
import toy
from plugins.pull import Pull

from rcig import cluster, lookup, loop, sharding
from rcig.data import streaming

RCIG = {"batch_size": 16, "pool_size": 2, "pool_max_steps": 2}


def main(
    name: str, process_id: int, num_processes: int, port: str, workdir: Path, num_steps: int, resident: int
) -> None:
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1)
    jax.config.update("jax_enable_x64", True)
    cluster.connect(f"127.0.0.1:{port}", num_processes, process_id)
    assert jax.device_count() == num_processes
    read, gather = [], streaming.gather
    streaming.gather = lambda source, rows: read.append(rows.shape) or gather(source, rows)
    distil(name, workdir, num_steps, sharding.layout(), resident)
    print("done", process_id, "read", *read[-1:])


def distil(name: str, workdir: Path, num_steps: int, layout: sharding.Layout, resident: int = 0) -> None:
    """Run a method; its set is in ``workdir/set.npz``."""
    rcig = lookup.find("methods", "rcig").make(toy.model(activation="softplus", depth=1), **RCIG)
    method = {"rcig": rcig, "pull": Pull(toy.model(), batch_size=16)}[name]
    publish = lambda step, synthetic: np.savez(workdir / "set.npz", step=step, **synthetic._asdict())
    loop.run(
        method,
        toy.dataset(),
        toy.synthetic(),
        loop.Schedule(num_steps, steps_per_dispatch=2, checkpoint_every=2, max_resident_bytes=resident),
        workdir,
        layout,
        evaluate=lambda step, synthetic: {},
        publish=publish,
    )


if __name__ == "__main__":
    name, process_id, num_processes, port, workdir, num_steps, resident = sys.argv[1:]
    main(name, int(process_id), int(num_processes), port, Path(workdir), int(num_steps), int(resident))
