"""The fields that every config has, with their defaults and meanings.

Options of a method, a model or an evaluation protocol need not be listed: those not set here take the defaults of
``methods/<name>.py``, ``rcig/models/<name>.py`` and ``rcig/evaluation/<protocol>.py``, and every one of them can be set
from the command line.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.dataset = "digits"  # see `python -m rcig.data list`
    config.data_dir = ""  # where prepared data sets are; empty: $TFDS_DATA_DIR, else ~/tensorflow_datasets
    config.data = ConfigDict()  # empty or 0: the data set's own default
    config.data.path = ""  # npz, folder, tsv: where your own data is
    config.data.test_path = ""  # tsv: where its test split is
    config.data.resolution = 0  # folder and some others: images are cropped and resized to this side
    config.data.test_fraction = 0.0  # npz, folder, tsv without a test split, usps: the share held out, stratified
    config.data.vocabulary = 0  # texts: number of words, the most frequent ones; the others are <unk>
    config.data.length = 0  # texts: words a sentence; longer ones are cut, shorter ones padded
    config.data.embeddings = ""  # texts: a GloVe file, or imdb+sst5: vectors of their train splits; empty: of its own
    config.data.embedding_dim = 0  # texts: numbers a word
    config.preprocessing = (
        "default"  # none, standard, zca, dc_standard, mtt_zca, mtt_standard; default: what RCIG uses for the data set
    )
    config.ipc = 1  # synthetic examples per class
    config.initialization = "real"  # where the synthetic set starts: real, noise, normal, unit, xavier, average,
    # kmeans; see rcig/initialize.py
    config.init_labels = ()  # the classes its rows start from, ipc rows each, e.g. (3, 7); empty: every class
    config.labels = ConfigDict()  # where its labels start: centred, one_hot, smoothed, orthogonal, normal, uniform,
    config.labels.name = "centred"  # bin, zeros, ones, file, CNDB, AIDB; see rcig/label_starts.py
    config.labels.file = ""  # file: M rows of K numbers; CNDB: word vectors (GloVe)
    config.labels.scale = 1.0
    config.labels.add = 0.0  # may be negative
    config.labels.add_first = True  # labels become (y + add) * scale, else y * scale + add
    config.labels.distance = "MSE"  # AIDB: MSE, NRMSE, SSIM
    config.labels.invert = False  # CNDB, AIDB: 1 - distance
    config.seed = 0  # of everything random

    config.num_steps = 1000  # outer steps
    config.steps_per_dispatch = 50  # outer steps compiled into one call; metrics are their means
    config.checkpoint_every = 500  # steps, rounded up to whole dispatches
    config.eval_every = 0  # steps between test evaluations during distillation (for the curve only); 0: none
    config.parallel = "jit"  # or "pmap"
    config.max_resident_bytes = 0  # keep the training set on the device up to this size; 0: a quarter of its memory
    config.precision = "default"  # of products and convolutions: default, tensorfloat32, float32 (slower), bfloat16
    config.x64 = False  # 64-bit mode: solves of kernel methods, and of rcig with method.solve_dtype="float64"

    config.pretrain = ConfigDict()  # of python -m rcig.pretrain, which trains pools of networks on the data set
    config.pretrain.num_networks = 20
    config.pretrain.group = 5  # so many are trained, on several devices side by side, then saved
    config.pretrain.num_steps = 2360
    config.pretrain.batch_size = 1024
    config.pretrain.learning_rate = 2e-4
    config.pretrain.halve_every = 1180  # steps
    config.pretrain.augmentation = ""  # see rcig/augment

    config.method = ConfigDict({"name": "rcig"})
    config.model = ConfigDict({"name": "convnet"})
    config.eval = ConfigDict({"protocol": "standard", "preset": "rcig"})
    return config
