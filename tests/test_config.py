"""Configs: where they come from, what overrides them, what a choice drops; every shipped one is complete."""

import json
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import methods
import rcig.evaluation
from configs._families import cells
from rcig import config as configs
from rcig import experiment
from rcig.data import sources
from rcig.errors import UserError
from rcig.evaluation import standard
from rcig.lookup import find, names
from rcig.types import Batch, Dataset

ROOT = Path(__file__).parent.parent
SHAPES = {  # of the data sets that shipped configs name
    "digits": (8, 8, 1),
    "mnist": (28, 28, 1),
    "mnist_rgb": (28, 28, 3),
    "fashion_mnist": (28, 28, 1),
    "cifar10": (32, 32, 3),
    "cifar100": (32, 32, 3),
    "caltech_birds2011": (32, 32, 3),
    "tiny_imagenet": (64, 64, 3),
    "imagenet2012": (224, 224, 3),
    "imagenet_resized/64x64": (64, 64, 3),
    "imagenette": (128, 128, 3),
    "imagewoof": (128, 128, 3),
    "svhn_cropped": (32, 32, 3),
    "folder": (224, 224, 3),
    "usps": (28, 28, 1),
    "imdb": (200, 100),
    "sst5": (56, 100),
    "trec6": (30, 100),
    "trec50": (20, 100),
}
NUM_CLASSES = {  # of those that have not ten
    **{"cifar100": 100, "caltech_birds2011": 200, "tiny_imagenet": 200, "imagenet2012": 1000},
    **{"imagenet_resized/64x64": 1000, "imdb": 2, "sst5": 5, "trec6": 6, "trec50": 50},
}
MODULES = {name: find("configs", name) for name in names("configs") if name != "default"}
CELLS = [
    f"{name}.py:{cell}"
    for name, module in MODULES.items()
    for cell in re.findall(r"\n    (\w+_ipc\d+\w*) ", module.__doc__ or "")
]
CONFIGS = (
    [f"{name}.py" for name in MODULES] + CELLS + [f"sldd_text.py:{cell}" for cell in find("configs", "sldd_text").CELLS]
)


def rows_of(name: str, size_per_class: int = 1) -> Dataset:
    """Return a data set of the shape of that called ``name``, and nothing but its shape."""
    count = NUM_CLASSES.get(name, 10)
    labels = np.repeat(np.arange(count, dtype=np.int32), size_per_class)
    inputs = np.broadcast_to(np.float32(0), (len(labels), *SHAPES[name]))
    batch = Batch(inputs, labels)
    return Dataset("any", batch, batch, count, tuple(map(str, range(count))), lambda x: x, {"kind": "none"})


def assert_complete(section: ConfigDict, package: str) -> None:
    module = find(package, section.name)
    assert configs.options(section).keys() == configs._defaults(module).keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_is_complete_and_makes_its_objects(name):
    config = configs.load(f"configs/{name}")
    assert config.is_locked and set(find("configs", "default").get_config()) == set(config)
    assert_complete(config.method, "methods")
    assert_complete(config.model, "rcig.models")
    assert_complete(config.eval.model, "rcig.models")
    assert config.eval.model.get("activation", "relu") == "relu"  # softplus is for distilling
    if config.eval.model.name == config.model.name:
        assert config.eval.model.get("width") == config.model.get("width")
    dataset = rows_of(config.dataset)
    model = experiment.make_model(config.model, dataset)
    method = find("methods", config.method.name).make(model, **configs.options(config.method))
    assert getattr(method, "batch_size", 0) == config.method.get("batch_size", 0)
    experiment.make_judge(config, dataset)
    if config.method.name != "frepo":  # distilled with mirror images, judged with them
        assert config.method.get("flip", False) == config.eval.flip


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_of_every_shipped_config_fits_its_state(name):
    config = configs.load(f"configs/{name}")
    make = find("methods", config.method.name).make
    if not hasattr(make, "step") or hasattr(make, "prepare") or config.method.get("networks", "").startswith("runs/"):
        pytest.skip("its steps begin from trained networks")
    dataset = rows_of(config.dataset, max(config.ipc, -(-10_000 // NUM_CLASSES.get(config.dataset, 10))))
    method = make(experiment.make_model(config.model, dataset), **configs.options(config.method))
    start, key = experiment.make_start(config, dataset), jax.random.key(0)
    shapes = lambda tree: jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), tree)
    (size,) = jax.eval_shape(method.rows, key, dataset.train.labels).shape
    batch = jax.eval_shape(
        lambda: Batch(jnp.zeros((size, *SHAPES[config.dataset]), jnp.float32), jnp.zeros(size, jnp.int32))
    )
    state = jax.eval_shape(method.init, key, start, batch)
    after, metrics = jax.eval_shape(method.step, key, state, batch)
    assert shapes(after) == shapes(state) and "loss" in metrics
    assert jax.eval_shape(method.synthetic, after).inputs.shape == start.inputs.shape


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_config_says_its_command_and_finds_its_data_set(name):
    file, _, cell = name.partition(":")
    said, config = (ROOT / "configs" / file).read_text(), configs.load(f"configs/{name}")
    assert f"--config=configs/{file}" in said and sources.find(config.dataset)
    if "_ipc" in cell:
        assert cell.removesuffix("_cpu") == f"{config.dataset}_ipc{config.ipc}"


def test_a_config_of_many_cells_makes_those_it_does_not_list_and_refuses_what_is_none():
    config = configs.load("dm:fashion_mnist_ipc3_cpu", ["--config.seed=4"])
    assert (config.dataset, config.ipc, config.model.width, config.seed) == ("fashion_mnist", 3, 32, 4)
    assert configs.load("dm").to_dict() == configs.load("configs/dm.py:cifar10_ipc10").to_dict()
    with pytest.raises(UserError, match="dm.py has no cell 'cifar10': a cell is DATASET_ipcN"):
        configs.load("dm:cifar10")
    with pytest.raises(UserError, match="lpld.py has no cell 'cifar10_ipc1': LPLD has settings for"):
        configs.load("lpld:cifar10_ipc1")
    with pytest.raises(UserError, match="sldd_text.py has no cell 'imdb_3': known are imdb_20_random"):
        configs.load("sldd_text:imdb_3")
    with pytest.raises(UserError, match="has no cell 'cifar10_ipc1'; leave out the colon"):
        configs.load("quickstart:cifar10_ipc1")
    with pytest.raises(UserError, match="unknown config 'dmm'"):
        configs.load("dmm:cifar10_ipc1")


def test_a_config_is_found_by_path_by_name_and_in_a_run(tmp_path, monkeypatch):
    by_name = configs.load("rcig_digits_ipc10", ["--config.seed=3"])
    by_path = configs.load(str(ROOT / "configs" / "rcig_digits_ipc10.py"), ["config.seed=3"])
    monkeypatch.chdir(tmp_path)
    configs.save(by_name, tmp_path)
    by_run = configs.load("config.json")
    elsewhere = configs.load("configs/rcig_digits_ipc10.py", ["--config.seed=3"])
    card = configs.from_dict(json.loads((tmp_path / "config.json").read_text()))
    for other in (by_path, by_run, elsewhere, card):
        assert other.to_dict() == by_name.to_dict()
    with pytest.raises(UserError, match="unknown config 'confgs/quickstart.py'; did you mean 'quickstart'"):
        configs.load("confgs/quickstart.py")


def test_a_file_of_ones_own_needs_to_say_only_what_is_different(tmp_path):
    text = "from ml_collections import ConfigDict\ndef get_config():\n  return ConfigDict({'model': {'width': 7}})\n"
    (tmp_path / "mine.py").write_text(text)
    config = configs.load(str(tmp_path / "mine.py"))
    assert config.to_dict() == configs.load("default", ["config.model.width=7"]).to_dict()
    (tmp_path / "mine.py").write_text(text.replace("'model'", "'modle'"))
    with pytest.raises(UserError, match="unknown config section 'modle'; did you mean 'model'"):
        configs.load(str(tmp_path / "mine.py"))


def test_overrides_take_the_type_of_the_field():
    said = {"num_steps": "70", "method.ridge": "1", "method.flip": "true", "x64": "False", "data.path": "1e3"}
    config = configs.load("quickstart", [f"--config.{key}={text}" for key, text in said.items()])
    values = [config.num_steps, config.method.ridge, config.method.flip, config.x64, config.data.path]
    assert list(map(repr, values)) == ["70", "1.0", "True", "False", "'1e3'"]  # a path stays as it was typed
    assert configs.load("quickstart", ["--config.seed=1", "--config.seed=2"]).seed == 2
    assert configs.change(config, {"method.ridge": 2, "seed": "5"}).method.ridge == 2.0


@pytest.mark.parametrize(
    "key, text, message",
    [
        ("num_steps", "1e3", "type int, not '1e3'"),
        ("num_steps", "", "type int"),
        ("num_steps", "None", "type int"),
        ("num_steps", "-1", "from 0 to"),
        ("seed", "9" * 30, "from 0 to"),
        ("method.flip", "1", "type bool"),
        ("method.ridge", "nan", "finite"),
        ("method.ridge", "1e999", "finite"),
        ("method.ridge", "abc", "type float, not 'abc'"),
        ("method", "rcig", "is a section, not a field; set one of average_decay"),
        ("method.rigde", "1", "did you mean 'method.ridge'"),
        ("methd.ridge", "1", "did you mean 'method'"),
        ("eval.model.widht", "1", "did you mean 'eval.model.width'"),
        ("", "1", "unknown config field ''"),
    ],
)
def test_an_override_that_does_not_fit_is_named(key, text, message):
    with pytest.raises(UserError, match=message):
        configs.load("quickstart", [f"--config.{key}={text}"])


@pytest.mark.parametrize("override", ["", "--config.seed", "--seed=1", "seed", "=", "--config=1"])
def test_what_is_no_override_is_told_how_to_write_one(override):
    with pytest.raises(UserError, match="write --config.FIELD=VALUE"):
        configs.load("quickstart", [override])


def test_values_of_the_wrong_type_are_refused_wherever_they_come_from(tmp_path):
    for value in (None, 1.5, [1], True, {"a": 1}):
        (tmp_path / "config.json").write_text(json.dumps({"num_steps": value}))
        with pytest.raises(UserError, match="num_steps"):
            configs.load(str(tmp_path / "config.json"))
        with pytest.raises(UserError, match="num_steps"):
            configs.change(configs.load("quickstart"), {"num_steps": value})


def test_the_judge_is_the_network_that_distilled_unless_something_else_is_said():
    judge = lambda *overrides: configs.load("rcig_cifar10_ipc1", list(overrides)).eval.model.to_dict()
    model = configs.load("rcig_cifar10_ipc1").model.to_dict()
    assert model["activation"] == "softplus" and judge() == model | {"activation": "relu"}
    assert judge("--config.model.width=16")["width"] == 16
    assert judge("--config.eval.model.width=64", "--config.model.width=16")["width"] == 64
    other = judge("--config.eval.model.name=dc_convnet", "--config.model.width=16")
    assert other == {"name": "dc_convnet"} | configs._defaults(find("rcig.models", "dc_convnet"))


@pytest.mark.parametrize("protocol", ["cross_arch", "continual", "membership"])
def test_networks_learn_from_a_set_as_its_config_says_under_every_protocol(protocol):
    said = {"loss": "raw_cross_entropy", "optimiser": "plain_adam", "learning_rate": 1e-3, "num_steps": 1000}
    config = configs.load("rat:cifar10_ipc10", [f"--config.eval.protocol={protocol}"])
    assert {name: config.eval[name] for name in said} == said
    back = configs.change(config, {"eval.protocol": "standard"})
    assert {name: back.eval[name] for name in said} == said
    assert configs.change(config, {"eval.protocol": "nas"}).eval.learning_rate == 0.01  # whose preset is another


def test_epochs_are_those_asked_for_with_augmentation_too():
    epochs = lambda *said: [
        configs.load("dsa:cifar10_ipc10", list(said)).eval[f"{name}_epochs"] for name in ("num", "augmented")
    ]
    assert epochs() == [300, 1000] and epochs("--config.eval.num_epochs=30") == [30, 0]
    assert epochs("--config.eval.num_epochs=30", "--config.eval.augmented_epochs=50") == [30, 50]


def test_another_model_drops_what_was_said_for_its_predecessor():
    config = configs.load("quickstart", ["--config.model.depth=1", "--config.model.name=dc_convnet"])
    assert config.model.to_dict() == {"name": "dc_convnet", "depth": 1} | {
        key: value for key, value in configs._defaults(find("rcig.models", "dc_convnet")).items() if key != "depth"
    }
    assert config.eval.model.name == "dc_convnet"
    same = configs.load("quickstart", ["--config.model.name=convnet"])
    assert same.to_dict() == configs.load("quickstart").to_dict()


def test_another_preset_drops_what_was_said_for_the_first_but_not_the_flips():
    config = configs.load("rcig_cifar10_ipc1", ["--config.eval.preset=dc", "--config.eval.num_epochs=9"])
    assert (config.eval.optimiser, config.eval.learning_rate, config.eval.num_epochs) == ("sgd", 0.01, 9)
    assert config.eval.augmentation == "" and config.eval.flip and config.eval.model.name == "convnet"
    run = configs.from_dict(configs.load("rcig_cifar10_ipc1", ["--config.eval.model.width=9"]).to_dict())
    changed = configs.change(run, {"eval.preset": "dc"})
    assert changed.eval.optimiser == "sgd" and changed.eval.model.width == 9


@pytest.mark.parametrize("protocol", ["cross_arch", "continual", "nas", "membership"])
def test_a_set_is_judged_by_its_own_preset_under_every_protocol_that_has_it(protocol):
    def judge(config, *overrides):
        run = configs.load(config).to_dict()  # as on a card: every field is said
        return configs.from_dict(run, [f"--config.eval.protocol={protocol}", *overrides]).eval

    for name, preset, augmentation in (
        ("configs/dsa.py:mnist_ipc10", "dsa", "dsa:color_crop_cutout_scale_rotate"),
        ("configs/dm.py:cifar10_ipc10", "dsa", "dsa:color_crop_cutout_flip_scale_rotate"),
        ("configs/dc.py:mnist_ipc1", "dc", "dc:crop_scale_rotate"),
        ("configs/dc.py:fashion_mnist_ipc1", "dc", ""),
    ):
        section = judge(name)
        assert (section.preset, section.augmentation) == (preset, augmentation)
        assert judge(name, "--config.eval.preset=rcig").augmentation == ""
    assert judge("rcig_mnist_ipc1").preset == ("dc" if protocol == "nas" else "rcig")  # the protocol's default
    assert judge("rcig_mnist_ipc1", "--config.eval.preset=dsa").augmentation == "dsa:color_crop_cutout_scale_rotate"


@pytest.mark.parametrize("dataset", [*cells.WRITTEN, "cifar10", "fashion_mnist"])
def test_sets_are_judged_with_the_operations_they_were_made_with(dataset):
    for method in ("dsa", "dm", "mtt"):
        config = configs.load(f"configs/{method}.py:{dataset}_ipc1")
        assert config.eval.augmentation == config.method.augmentation
        assert ("flip" in config.eval.augmentation) == (dataset not in standard.WRITTEN)


def test_what_a_method_says_of_its_networks_holds_for_their_evaluation():
    overrides = ["--config.method.networks_seed=3", "--config.method.label_softmax=True"]
    config = configs.load("sldd_mnist_fixed_10", overrides)
    assert (config.eval.networks_seed, config.eval.label_softmax) == (3, True)
    assert configs.from_dict(config.to_dict()).eval.networks_seed == 3
    other = configs.load("sldd_mnist_fixed_10", [*overrides, "--config.eval.networks_seed=5"])
    assert (other.eval.networks_seed, other.method.networks_seed) == (5, 3)
    standard_one = configs.load("sldd_mnist_fixed_10", [*overrides, "--config.eval.protocol=standard"])
    assert "networks_seed" not in standard_one.eval


def test_a_preset_of_the_same_name_is_another_one_elsewhere():
    run = configs.load("lpld_digits").to_dict()
    assert run["eval"]["preset"] == "small"
    assert configs.from_dict(run, ["--config.eval.protocol=nas"]).eval.preset == "dc"


def test_the_judge_of_a_set_keeps_its_activation_but_softplus():
    assert configs.load("configs/dc.py:cifar10_ipc1", ["--config.model.activation=sigmoid"]).eval.model.activation == (
        "sigmoid"
    )
    assert configs.load("rcig_cifar10_ipc1").eval.model.activation == "relu"


@pytest.mark.parametrize(
    "cell, rate, steps, dispatch, method_flips, judge_epochs, augmentation",
    [  # reference/dc_dsa_dm.md: loops and rates; digits are not mirrored
        ("dc.py:mnist_ipc1", 0.1, 1000, 20, None, (300, 1000), "dc:crop_scale_rotate"),
        ("dc.py:cifar10_ipc10", 0.1, 10000, 20, None, (300, 1000), ""),
        ("dc.py:cifar10_ipc50", 0.1, 50000, 50, None, (300, 1000), ""),
        ("dsa.py:svhn_cropped_ipc10", 0.1, 10000, 20, False, (300, 1000), "dsa:color_crop_cutout_scale_rotate"),
        ("dsa.py:cifar100_ipc1", 0.1, 1000, 20, True, (300, 1000), "dsa:color_crop_cutout_flip_scale_rotate"),
        ("dm.py:cifar10_ipc50", 1.0, 20000, 20, True, (300, 1000), "dsa:color_crop_cutout_flip_scale_rotate"),
        ("dm.py:cifar10_ipc100", 10.0, 20000, 20, True, (300, 1000), "dsa:color_crop_cutout_flip_scale_rotate"),
        ("dm.py:cifar10_ipc1250", 10.0, 20000, 20, True, (300, 1000), "dsa:color_crop_cutout_flip_scale_rotate"),
        ("dm.py:mnist_ipc10", 1.0, 20000, 20, False, (300, 1000), "dsa:color_crop_cutout_scale_rotate"),
    ],
)
def test_published_settings_of_the_matching_methods(
    cell, rate, steps, dispatch, method_flips, judge_epochs, augmentation
):
    config = configs.load(f"configs/{cell}")
    assert (config.method.learning_rate, config.num_steps, config.steps_per_dispatch) == (rate, steps, dispatch)
    assert (config.method.momentum, config.method.batch_size, config.model.width) == (0.5, 256, 128)
    assert method_flips is None or ("flip" in config.method.augmentation) == method_flips
    assert (config.eval.num_epochs, config.eval.augmented_epochs, config.eval.num_networks) == (*judge_epochs, 20)
    assert config.eval.augmentation == augmentation
    assert config.initialization == ("normal" if cell.startswith("dc.") else "real")


@pytest.mark.parametrize("name", ["rcig_cifar10_ipc1", "frepo.py:mnist_ipc1"])
def test_what_was_said_of_a_judge_goes_with_it(name):
    load = lambda *said: configs.load(f"configs/{name}" if ":" in name else name, [f"--config.{one}" for one in said])
    assert load().eval.model.norm == "none"
    assert "norm" not in load("model.name=mlp").eval.model and load("model.name=mlp").eval.model.name == "mlp"
    assert load("model.name=mlp", "eval.model.width=9").eval.model.width == 9
    assert load("model.width=64").eval.model.norm == "none"


def test_the_evaluation_follows_the_methods_networks_steps_and_flips():
    load = lambda name, *said: configs.load(name, [f"--config.{one}" for one in said])
    assert load("dd_mnist_fixed_10").eval.networks == "fixed" and load("dd_mnist_random_100").eval.steps == 10
    assert load("dd_mnist_fixed_10", "method.networks=random").eval.networks == "random"
    assert load("dd_mnist_random_100", "method.networks=fixed").eval.networks == "fixed"
    quick = load("quickstart", "method.name=bptt", "eval.protocol=bptt", "method.steps=2", "method.networks=fixed")
    assert (quick.eval.steps, quick.eval.networks) == (2, "fixed")
    met = load("dd_mnist_fixed_10", "method.networks=runs/pool")
    with pytest.raises(UserError, match="eval.networks must be named"):  # others than were met
        find("rcig.evaluation", "bptt").make(**configs.options(met.eval))
    assert load("adapt_usps_to_mnist").eval.networks == "runs/pool_usps_held_out"
    assert not load("rcig_cifar10_ipc1", "method.flip=False").eval.flip and load("rcig_cifar10_ipc1").eval.flip
    assert not load("rcig_cifar10_ipc1", "eval.flip=False").eval.flip
    with_six = load("rcig_cifar10_ipc10").eval.augmentation
    assert with_six and load("rcig_cifar10_ipc10", "eval.protocol=cross_arch").eval.augmentation == with_six
    assert "augmentation" not in load("rcig_cifar10_ipc10", "eval.protocol=nearest").eval
    assert load("dd_mnist_random_100", "eval.protocol=continual").eval.steps == 5
    attack = load("attack_mnist_0_to_1", "method.attack=3,5").eval
    assert (attack.attack, attack.steps, attack.epochs) == ((3, 5), 1, 1)


def test_numbers_of_numpy_are_numbers():
    config = configs.change(configs.load("quickstart"), {"init_labels": np.array([1, 2]), "ipc": np.int64(2)})
    assert json.loads(json.dumps(config.to_dict()))["init_labels"] == [1, 2] and config.ipc == 2
    assert configs.change(config, {"init_labels": [np.int64(3)]}).init_labels == (3,)


def test_another_method_and_protocol_need_one_file_each(tmp_path, monkeypatch):
    (tmp_path / "halve.py").write_text("def make(model, *, strength: float = 0.5):\n    return strength\n")
    (tmp_path / "quick.py").write_text("PRESETS = {'a': {'n': 2}, 'b': {}}\ndef make(n=1, flip=False): return n\n")
    for package in (methods, rcig.evaluation):
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    config = configs.load("rcig_cifar10_ipc1", ["--config.method.name=halve", "--config.eval.protocol=quick"])
    assert config.method.to_dict() == {"name": "halve", "strength": 0.5}
    evaluation = config.eval.to_dict()
    assert evaluation.pop("model")["name"] == "convnet"
    assert evaluation == {"protocol": "quick", "preset": "a", "n": 2, "flip": False}
    with pytest.raises(UserError, match="unknown config field 'method.ridge'"):
        configs.change(config, {"method.ridge": 1.0})
    (tmp_path / "bare.py").write_text("def make(n=1): return n\n")  # neither presets nor what other protocols have
    bare = configs.from_dict(config.to_dict(), ["--config.eval.protocol=bare"]).eval
    assert configs.options(bare) == {"n": 1} and bare.preset == "bare"


def test_what_an_evaluation_does_beyond_its_preset_is_told():
    config = configs.load("quickstart", ["--config.eval.preset=dc", "--config.eval.num_networks=3"])
    assert configs.beyond_preset(configs.change(config, {"eval.loss": "mse"})) == {"num_networks": 3, "loss": "mse"}
    judged = configs.change(config, {"eval.protocol": "soft_labels", "eval.label_pool": "/elsewhere/pool"})
    assert configs.beyond_preset(judged) == {}
    said = config.to_dict()
    other = {"precision": "float32", "eval.model.activation": "sigmoid", "seed": 3, "method.ridge": 1.0}
    told = {"precision": "float32", "model.activation": "sigmoid"}
    assert configs.elsewhere(configs.change(config, other), said) == told and configs.elsewhere(config, {}) == {}
    assert configs.elsewhere(configs.change(config, {"data.path": "elsewhere/x.npz"}), said) == {}
    with pytest.raises(UserError, match="config.eval.model is a section"):
        configs.change(config, {"eval.model": "mlp"})


def test_regression_on_a_set_has_the_kernel_that_distilled_it():
    chosen = ["--config.method.kernel=convnet", "--config.method.depth=3", "--config.method.ridge=0.001"]
    judge = configs.load("kip_mnist_ipc1", chosen).eval
    assert (judge.kernel, judge.depth, judge.ridge) == ("convnet", 3, 1e-3)
    assert configs.load("quickstart", ["--config.method.ridge=0.1", "--config.eval.protocol=kernel"]).eval.ridge == 1e-6


def test_a_workdir_belongs_to_the_config_of_its_first_checkpoint(tmp_path):
    first, second = configs.load("quickstart"), configs.load("quickstart", ["--config.ipc=2", "--config.seed=1"])
    configs.save(first, tmp_path)
    configs.save(second, tmp_path)  # nothing depends on the first one yet
    configs.save(first, tmp_path, writer=False)
    assert configs.load(str(tmp_path / "config.json")).to_dict() == second.to_dict()
    (tmp_path / "checkpoints" / "10").mkdir(parents=True)
    configs.save(configs.change(second, {"data_dir": "/elsewhere"}), tmp_path)
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(UserError, match="another config: ipc is 2 there and 1 here"):
        configs.save(first, tmp_path)
    assert (tmp_path / "config.json").read_bytes() == before


def test_a_run_of_an_older_version_goes_on_where_new_options_have_their_defaults(tmp_path):
    config = configs.load("quickstart")
    old = config.to_dict()
    del old["method"]["tolerance"], old["precision"]
    (tmp_path / "config.json").write_text(json.dumps(old))
    (tmp_path / "distilled" / "d").mkdir(parents=True)
    configs.save(config, tmp_path)


@pytest.mark.parametrize(
    "cell, options",
    [
        ("mtt.py:tiny_imagenet_ipc20", {"learning_rate": 1e4, "max_start_epoch": 40}),
        ("mtt.py:cifar10_ipc20", {"rate_learning_rate": 1e-5, "max_start_epoch": 20}),
        ("mtt.py:svhn_cropped_ipc1", {"learning_rate": 100.0, "rate_learning_rate": 1e-7}),
        ("rat.py:cifar100_ipc50", {"learn_labels": True, "rows_per_class": 1, "horizon": 300}),
        ("rat.py:tiny_imagenet_ipc1", {"learning_rate": 3e-4, "classes_at_once": 50}),
    ],
)
def test_a_cell_without_published_options_takes_the_nearest_of_its_data_set(cell, options):
    method = configs.load(cell).method
    assert {name: method[name] for name in options} == options


def test_remember_the_past_is_judged_by_300_epochs_with_its_augmentation():
    config = configs.load("rtp.py:cifar10_ipc10")
    judge = find("rcig.evaluation", config.eval.protocol).make(**configs.options(config.eval))
    assert judge.recipe(100, config.eval.augmentation).num_steps == 300 and not judge.plain
