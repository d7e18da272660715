"""Who may import whom (design: floors), and what an import costs."""

import ast
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from rcig.command import ALLOCATOR

ROOT = Path(__file__).parent.parent
PACKAGES = ("rcig", "kernels", "methods", "configs")
MAY = {  # floor -> our packages it may import
    "kernels": {"kernels"},
    "rcig": {"rcig"},
    "methods": {"methods", "kernels", "rcig"},
    "configs": {"configs"},
}
ONLY_IN = {  # module -> where alone it may be imported
    "flax.linen": "rcig/models/",
    "neural_tangents": "",
    "jax.sharding": "rcig/sharding.py",
    "tensorflow_datasets": "rcig/data/",
    "orbax": "rcig/checkpoint.py rcig/artefact.py",
    "argparse": "rcig/command.py rcig/data/__main__.py",
    "torch": "",
    "tensorflow": "",
}
FILES = sorted(path.relative_to(ROOT) for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_folder_of_code_is_a_package():
    """As setup.py finds them: what has no __init__.py is not installed."""
    assert not [path.parent for path in FILES if not (ROOT / path.parent / "__init__.py").is_file()]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_floors(path):
    for name in imports(path):
        top = name.split(".")[0]
        if top in PACKAGES:
            may = MAY[path.parts[0]] | ({"kernels"} if path.parts[:2] == ("rcig", "evaluation") else set())
            assert top in may, f"{path} imports {name}: {path.parts[0]} may import {MAY[path.parts[0]]}"
        if path.parts[0] == "configs":
            assert top in ("configs", "ml_collections"), f"{path} imports {name}: configs import ml_collections only"
        for module, places in ONLY_IN.items():
            if name == module or name.startswith(module + "."):
                allowed = places.split()
                assert any(str(path).startswith(place) for place in allowed), (
                    f"{path} imports {name}: only {allowed} may"
                )


@pytest.mark.parametrize("path", FILES, ids=str)
def test_modules_say_what_they_are_and_stay_short(path):
    text = (ROOT / path).read_text()
    assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"
    assert len(text.splitlines()) <= 320, f"{path} is long: two ideas in one file?"


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_ours(package):
    module = __import__(package)
    assert Path(module.__file__).parent == ROOT / package


def test_importing_the_library_is_cheap():
    code = (
        "import sys, time; t = time.perf_counter(); import rcig; print(time.perf_counter() - t);"
        "print(sorted({'tensorflow', 'torch', 'tensorflow_datasets', 'jax'} & set(sys.modules)))"
    )
    seconds, heavy = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert float(seconds) < 2
    assert heavy == "[]"


def test_the_whole_library_imports_neither_tensorflow_nor_torch():
    code = (
        "import sys; import rcig.experiment, rcig.measure, methods.rcig, rcig.evaluation.standard, rcig.models.convnet;"
        "print(sorted({'tensorflow', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_core_is_a_device_and_lapack_takes_no_other():
    code = (
        "import os; from rcig.command import one_device_a_core; one_device_a_core();"
        "import jax; from threadpoolctl import threadpool_info;"
        "cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count();"
        "print(jax.local_device_count() - cores);"
        "print(max(pool['num_threads'] for pool in threadpool_info() if pool['user_api'] == 'blas'))"
    )
    plain = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}  # conftest's
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0", "1"]


def test_glibc_knows_the_allocators_settings():
    """It ignores what it does not know, without a word; large pages are known from 2.35 on."""
    loader = next((path for folder in ("/lib64", "/lib") for path in Path(folder).glob("ld-linux*.so.?")), None)
    if loader is None or tuple(map(int, platform.libc_ver()[1].split("."))) < (2, 35):
        pytest.skip("no glibc here, or an old one")
    told = subprocess.run(
        [loader, "--list-tunables"], env={"GLIBC_TUNABLES": ALLOCATOR}, capture_output=True, text=True, check=True
    ).stdout
    values = dict(re.findall(r"^(\S+): (\S+)", told, re.MULTILINE))
    for name, value in (setting.split("=") for setting in ALLOCATOR.split(":")):
        assert int(values[name], 0) == int(value)
