"""Joining the other processes of a run, before a device is used; what they share afterwards is rcig/sharding.py's."""

import os

import jax

from rcig.errors import UserError

_TASKS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")  # numbers: one task is alone, also inside an allocation
_COORDINATORS = ("JAX_COORDINATOR_ADDRESS", "MEGASCALE_COORDINATOR_ADDRESS")


def connect(coordinator: str = "", num_processes: int = 0, process_id: int = -1) -> bool:
    """Join the other processes of a run: as told, or as SLURM, Open MPI or a TPU slice's variables tell; else nothing.

    Must come before the first use of a device. Args: coordinator, "auto" is what jax finds, which asks Kubernetes and
    Cloud TPU's metadata, too: a process alone need not have these, so they are asked only then.
    Returns whether there was something to join. Raises: UserError for numbers that cannot be.
    """
    if not coordinator and (num_processes or process_id >= 0):
        raise UserError("--num_processes and --process_id want a --coordinator=HOST:PORT as well; give all three")
    if coordinator == "auto":
        _find_cluster("--coordinator=auto finds no cluster; give HOST:PORT and the other two flags")
    elif coordinator:
        if not coordinator.rpartition(":")[2].isdecimal() or not 0 <= process_id < num_processes:
            raise UserError(
                f"--coordinator must be HOST:PORT with a --process_id from 0 to --num_processes - 1, not "
                f"{coordinator}, {process_id} and {num_processes}; --coordinator=auto leaves them to jax"
            )
        jax.distributed.initialize(coordinator, num_processes, process_id)
    elif told := _cluster():
        known = ", ".join(told)
        _find_cluster(f"{known} speak of a cluster, but not enough; unset them, or give --coordinator=HOST:PORT")
    else:
        return False
    return True


def _cluster() -> list[str]:
    """Return the environment's variables that name other processes, or where to join them."""
    found = [name for name in _TASKS if os.environ.get(name, "1") not in ("", "0", "1")]
    found += [name for name in _COORDINATORS if name in os.environ]
    return found + ["TPU_WORKER_HOSTNAMES"] * ("," in os.environ.get("TPU_WORKER_HOSTNAMES", ""))


def _find_cluster(remedy: str) -> None:
    try:
        jax.distributed.initialize()
    except ValueError as error:
        raise UserError(f"{remedy} ({error})") from error
