"""Cross-architecture evaluation: every network of a pool under the standard protocol, and end to end."""

import json
import zlib
from pathlib import Path

import jax
import numpy as np
import pytest
import toy
from PIL import Image

from rcig import config as configs
from rcig import experiment, matrix, measure, report, training
from rcig.errors import UserError
from rcig.evaluation import standard
from rcig.evaluation.cross_arch import PRESETS, CrossArch, evaluate
from rcig.lookup import find
from rcig.models._names import POOLS, network
from rcig.types import Synthetic

TINY = {"architectures": "ConvNetD1W4, MLPW4", "num_networks": 3, "num_steps": 12, "learning_rate": 0.01}
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def few():
    """Two real examples of each blob."""
    dataset = toy.dataset(24, 60)
    inputs, labels = np.asarray(dataset.train.inputs[:6], np.float32), dataset.train.labels[:6]
    return Synthetic(inputs, np.eye(3, dtype=np.float32)[labels]), dataset


def test_each_architecture_has_the_accuracy_of_the_standard_protocol(few):
    synthetic, dataset = few
    result = evaluate(KEY, synthetic, dataset, None, CrossArch(**TINY))
    rows = result.details["architectures"]
    assert list(rows) == ["ConvNetD1W4", "MLPW4"] and result.details["model"] == "ConvNetD1W4, MLPW4"
    for name, plugin, options in (
        ("ConvNetD1W4", "dc_convnet", {"depth": 1, "width": 4}),
        ("MLPW4", "mlp", {"width": 4}),
    ):
        model = find("rcig.models", plugin).make(toy.SHAPE, 3, **options)
        key = jax.random.fold_in(KEY, zlib.crc32(name.encode()))
        same = {field: value for field, value in TINY.items() if field != "architectures"}
        want = standard.evaluate(key, synthetic, dataset, model, standard.Standard(**same))
        assert rows[name] == {"accuracy": want.accuracy, "std": want.std, "n": 3}
    assert result.accuracies.tolist() == [row["accuracy"] for row in rows.values()] and result.augmented is None
    assert result.n == 2 and rows["ConvNetD1W4"] != rows["MLPW4"]
    json.dumps(dict(result.details))


def test_order_changes_nothing_and_a_second_set_compiles_nothing(few):
    synthetic, dataset = few
    one = evaluate(KEY, synthetic, dataset, None, CrossArch(**TINY))
    compiled = training._train._cache_size()
    two = evaluate(KEY, synthetic, dataset, None, CrossArch(**TINY | {"architectures": "MLPW4,ConvNetD1W4"}))
    assert two.details["architectures"] == one.details["architectures"]
    assert training._train._cache_size() == compiled > 0


def test_both_runs_are_reported_where_there_is_an_augmentation(few):
    options = TINY | {"num_steps": 3, "augmentation": "dsa:flip_cutout", "architectures": "MLPW4"}
    result = evaluate(KEY, *few, None, CrossArch(**options))
    row = result.details["architectures"]["MLPW4"]
    assert row["accuracy"] == result.accuracy and row["accuracy_augmented"] == result.augmented.accuracy
    assert result.augmentation == "" and result.augmented.augmentation == "dsa:flip_cutout"
    alone = evaluate(KEY, *few, None, CrossArch(**options, plain=False))
    assert alone.accuracy == result.augmented.accuracy and alone.augmentation == "dsa:flip_cutout"


def test_options_and_presets_are_those_of_the_standard_protocol():
    section = configs.load("quickstart", ["--config.eval.protocol=cross_arch", "--config.eval.preset=dsa"]).eval
    assert PRESETS is standard.PRESETS and (section.pool, section.architectures) == ("M", "")
    plain = configs.load("quickstart", ["--config.eval.protocol=standard", "--config.eval.preset=dsa"]).eval
    own = ("protocol", "pool", "architectures")
    assert {k: v for k, v in section.items() if k not in own} == {k: v for k, v in plain.items() if k not in own}
    assert section.optimiser == "sgd" and section.num_networks == 20


@pytest.mark.parametrize("pool", POOLS)
def test_pools(pool):
    assert CrossArch(pool=pool).names == POOLS[pool]
    for name in POOLS[pool]:
        plugin, options = network(name)
        find("rcig.models", plugin).make((28, 28, 1), 10, **options)
    assert ("BN" in "".join(POOLS[pool])) == (pool in "BN")


def test_the_pools_are_those_of_the_published_command_line():
    assert {name: " ".join(pool) for name, pool in POOLS.items()} == {
        "M": "MLP ConvNet LeNet AlexNet VGG11 ResNet18",
        "B": "ConvNetBN ConvNetASwishBN AlexNetBN VGG11BN ResNet18BN",
        "W": "ConvNetW32 ConvNetW64 ConvNetW128 ConvNetW256",
        "D": "ConvNetD1 ConvNetD2 ConvNetD3 ConvNetD4",
        "A": "ConvNetAS ConvNetAR ConvNetAL ConvNetASwish",
        "P": "ConvNetNP ConvNetMP ConvNetAP",
        "N": "ConvNetNN ConvNetBN ConvNetLN ConvNetIN ConvNetGN",
    }


@pytest.mark.parametrize(
    "options, message",
    [
        ({"pool": "Q"}, "unknown eval.pool 'Q'; known: A, B, D, M, N, P, W"),
        ({"architectures": "MLP,ConvNetW"}, "unknown network 'ConvNetW'; did you mean 'ConvNet'"),
        ({"architectures": "MLP,,LeNet"}, "unknown network ''"),
        ({"architectures": "MLP,MLP"}, "name each network once"),
        ({"num_networks": 0}, "num_networks must be positive"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        CrossArch(**options)


def test_what_does_not_fit_is_refused_before_anything_is_trained(few, monkeypatch):
    monkeypatch.setattr(standard, "evaluate", None)
    with pytest.raises(UserError, match="lenet wants images of 28"):
        evaluate(KEY, *few, None, CrossArch(**TINY | {"architectures": "MLPW4,LeNet"}))


def test_end_to_end():
    """Digits, by the config: the table has a row for each architecture, the JSON all of them."""
    options = [f"--config.eval.{name}={value}" for name, value in (TINY | {"architectures": "MLPW4,MLPW8"}).items()]
    config = configs.load("quickstart", ["--config.eval.protocol=cross_arch", *options])
    dataset = experiment.load_dataset(config)
    distilled = experiment.seal(
        experiment.make_start(config, dataset), experiment.make_card(config, dataset, config.num_steps)
    )
    result = measure.evaluate(distilled, config, dataset)
    rows = result["architectures"]
    assert result["accuracy"] == pytest.approx(np.mean([row["accuracy"] for row in rows.values()]))
    assert result["protocol"] == "cross_arch" and result["n"] == 2 and "baseline_random" in result
    lines = report.table(json.loads(json.dumps(result))).splitlines()
    assert [line.split("%")[0].split()[:-1] for line in lines[2:]] == [
        *(["distilled"], ["MLPW4"], ["MLPW8"], ["random", "real", "examples"], ["MLPW4"], ["MLPW8"])
    ]
    beside = [row["accuracy"] for row in result["baseline_random_architectures"].values()]
    assert result["baseline_random"] == pytest.approx(np.mean(beside)) and len(beside) == 2
    assert lines[0].endswith("MLPW4, MLPW8")


def test_the_matrix_of_several_runs(tmp_path, capsys, monkeypatch):
    row = lambda *means: {"accuracy": means[0], "std": means[1], "n": 3}
    runs = {
        "by_mlp": {"MLP": row(0.705, 0.012)},
        "by_convnet": {"MLP": row(0.696, 0.016), "ConvNet": row(0.917, 0.005)},
    }
    for name, architectures in runs.items():
        (tmp_path / name).mkdir()
        text = json.dumps({"accuracy": 0.5, "architectures": architectures})
        (tmp_path / name / "eval-cross_arch.json").write_text(text)
    paths = [str(tmp_path / name) for name in runs]
    monkeypatch.setattr("sys.argv", ["matrix", str(tmp_path / "table.2"), *paths])
    matrix.main()
    assert capsys.readouterr().out.splitlines() == [
        "            MLP         ConvNet",
        "by_mlp      70.5 ± 1.2  -",
        "by_convnet  69.6 ± 1.6  91.7 ± 0.5",
    ]
    assert json.loads((tmp_path / "table.2.json").read_text()) == runs
    with Image.open(tmp_path / "table.2.png") as picture:
        assert picture.size > (300, 100)
    shown = [text.get_text() for text in matrix.heat_map(matrix.read([*map(Path, paths)])).axes[0].texts]
    assert shown == ["70.5", "69.6", "91.7"]
    with pytest.raises(UserError, match="cannot read .*eval-cross_arch.json;.* measured with python eval.py"):
        matrix.read([tmp_path])
    for broken in ("[]", '{"architectures": 3}', '{"architectures": {"MLP": {}}}', '{"architectures": {"MLP": 1}}'):
        (tmp_path / "eval-cross_arch.json").write_text(broken)
        with pytest.raises(UserError, match="cannot read"):
            matrix.read([tmp_path])
    with pytest.raises(UserError, match="the same name"):
        matrix.read([Path(paths[0])] * 2)
    told = {"architectures": runs["by_mlp"], "dataset": "digits", "ipc": 1, "preset": "dc"}
    for other in ({"preset": "dsa"}, {"dataset": "mnist"}):
        for path, said in zip(paths, (told, told | other), strict=True):
            (Path(path) / "eval-cross_arch.json").write_text(json.dumps(said))
        if "preset" in other:
            with pytest.warns(UserWarning, match="the rows differ in preset: dc, dsa"):
                matrix.read([*map(Path, paths)])
    with pytest.raises(UserError, match="different data sets, digits, mnist"):
        matrix.read([*map(Path, paths)])
