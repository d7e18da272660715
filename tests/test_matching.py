"""Gradient and distribution matching against loops in plain sight, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy

from methods import _matching, distribution_matching, gradient_matching, trajectory_matching
from rcig import augment, loop, pool, tiles
from rcig.data import sampling
from rcig.errors import UserError
from rcig.types import Batch, Model, Outputs, Synthetic

K, SIZE, IPC = toy.NUM_CLASSES, 6, 2
DSA = "dsa:color_crop_cutout_scale_rotate"


@functools.cache
def model(norm="instance"):
    return toy.model("dc_convnet", depth=1, width=3, activation="softplus", beta=5.0, norm=norm)


@functools.cache
def shallow():
    """Return a network of one hidden layer, which compiles quickly."""

    def init(key):
        body, head = (
            jax.random.normal(k, shape) / 8 for k, shape in zip(jax.random.split(key), ((64, 5), (5, K)), strict=True)
        )
        return {"params": {"body": body, "head": {"kernel": head, "bias": jnp.zeros(K)}}}

    def apply(variables, x, train, key):
        params = variables["params"]
        features = jnp.tanh(x.reshape(len(x), -1) @ params["body"])
        return Outputs(features @ params["head"]["kernel"] + params["head"]["bias"][None], features), variables

    return Model(init, apply)


@functools.cache
def fresh(norm="instance"):
    """Return a network's first variables."""
    return jax.jit(model(norm).init)(jax.random.key(1))


@functools.cache
def batch():
    """Return a class-minor batch of SIZE examples of each class."""
    data = toy.dataset().train
    rows = jax.jit(lambda labels: _matching.rows(jax.random.key(5), labels, model(), SIZE))(jnp.asarray(data.labels))
    return Batch(jnp.asarray(data.inputs)[rows], jnp.asarray(data.labels)[rows])


def of_class(change, key, images, labels, c):
    """Return the images of class c as they are changed for it."""
    own = jnp.asarray(np.flatnonzero(np.asarray(labels) == c))
    return change(key, images[own], jnp.full(len(own), c))


@pytest.fixture
def gradients():
    """Return two trees with a leaf of every rank."""
    shapes = {"conv": (2, 2, 3, 4), "layer_norm": (2, 2, 3), "dense": (5, 2), "bias": (4,)}
    draw = lambda key: {name: jax.random.normal(key, shape) for name, shape in shapes.items()}
    return draw(jax.random.key(0)), draw(jax.random.key(1))


def test_rows_are_class_minor_and_different():
    labels = jnp.asarray(toy.dataset().train.labels)
    rows = np.asarray(_matching.rows(jax.random.key(0), labels, model(), 20))
    np.testing.assert_array_equal(np.asarray(labels)[rows], np.arange(60) % K)
    assert len(set(rows)) == 60


def test_ours_sums_over_output_units_the_last_axis_and_leaves_out_rank_one(gradients):
    a, b = (jax.tree.map(np.asarray, tree) for tree in gradients)
    expected = 0.0
    for x, y in ((a["conv"], b["conv"]), (a["layer_norm"], b["layer_norm"]), (a["dense"], b["dense"])):
        for unit in range(x.shape[-1]):
            u, v = x[..., unit].ravel(), y[..., unit].ravel()
            expected += 1 - u @ v / (np.linalg.norm(u) * np.linalg.norm(v) + 1e-6)
    np.testing.assert_allclose(gradient_matching.ours(*gradients), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "shape, same, opposite", [((3, 3, 2, 5), 0, 10), ((4, 5), 0, 10), ((2, 2, 7), 0, 14), ((6,), 0, 0)]
)
def test_ours_of_equal_and_opposite_gradients(shape, same, opposite):
    tree = [100 * jax.random.normal(jax.random.key(0), shape)]
    np.testing.assert_allclose(gradient_matching.ours(tree, tree), same, atol=1e-7)
    np.testing.assert_allclose(gradient_matching.ours(tree, optax.tree.scale(-3.0, tree)), opposite, atol=1e-7)


def test_mse_and_cos_take_all_parameters_as_one_vector(gradients):
    a, b = (np.concatenate([np.asarray(leaf).ravel() for leaf in jax.tree.leaves(tree)]) for tree in gradients)
    np.testing.assert_allclose(gradient_matching.squared_distance(*gradients), np.sum((a - b) ** 2), rtol=1e-12)
    cosine = a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-6)
    np.testing.assert_allclose(gradient_matching.cos(*gradients), 1 - cosine, rtol=1e-12)


@pytest.mark.parametrize("distance", gradient_matching.DISTANCES)
def test_a_gradient_of_zero_has_a_distance_and_a_finite_slope(gradients, distance):
    zero = optax.tree.zeros_like(gradients[0])
    value, slope = jax.value_and_grad(gradient_matching.DISTANCES[distance])(zero, gradients[1])
    assert np.isfinite(value) and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def plain_gradient_loss(inputs, key, variables, distance, augmentation, norm):
    """DC's loss, one class after the other."""
    change, labels = augment.siamese(augmentation, K), np.repeat(np.arange(K), IPC)

    def gradient(x, c):
        def loss(params):
            logits = model(norm).apply({**variables, "params": params}, x, False, None)[0].logits
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.full(len(x), c)))

        return jax.grad(loss)(variables["params"])

    total = 0.0
    for c in range(K):
        real = gradient(of_class(change, key, batch().inputs, batch().labels, c), c)
        total += distance(gradient(of_class(change, key, inputs, labels, c), c), real)
    return total


@pytest.mark.parametrize(
    "distance, augmentation, norm",
    [("ours", "none", "layer"), ("mse", DSA, "instance"), ("ours", "none", "batch")],
)
def test_the_matching_gradient_is_that_of_a_plain_loop_over_classes(distance, augmentation, norm):
    method = gradient_matching.make(model(norm), distance=distance, augmentation=augmentation)
    key, variables, synthetic = jax.random.key(2), fresh(norm), toy.synthetic(IPC)
    plain = functools.partial(
        plain_gradient_loss,
        key=key,
        variables=variables,
        distance=gradient_matching.DISTANCES[distance],
        augmentation=augmentation,
        norm=norm,
    )
    (loss, _), gradient = jax.jit(method.matching_gradient)(key, variables, synthetic, batch())
    plain = jax.jit(jax.value_and_grad(plain))
    expected_loss, expected = plain(synthetic.inputs)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-9)
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-9 * float(jnp.max(jnp.abs(expected))))
    direction = jax.random.normal(jax.random.key(3), synthetic.inputs.shape)
    slope = toy.central_difference(lambda x: plain(x)[0], synthetic.inputs, direction)
    np.testing.assert_allclose(jnp.vdot(gradient, direction), slope, rtol=1e-6, atol=1e-8)


def test_classes_together_match_the_mean_of_their_gradients():
    method = gradient_matching.make(model(), distance="cos", classes_together=K)
    variables, synthetic = fresh(), toy.synthetic(IPC)
    (loss, _), _ = jax.jit(method.matching_gradient)(jax.random.key(2), variables, synthetic, batch())

    @jax.jit
    def gradient(x, labels):
        def loss(params):
            logits = model().apply({**variables, "params": params}, x, False, None)[0].logits
            return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

        return jax.grad(loss)(variables["params"])

    learned = gradient(synthetic.inputs, jnp.repeat(jnp.arange(K), IPC))
    np.testing.assert_allclose(loss, gradient_matching.cos(learned, gradient(*batch())), rtol=1e-9)


@pytest.mark.parametrize(
    "ipc, expected",
    [(1, (1, 50)), (5, (5, 50)), (10, (10, 50)), (15, (15, 38)), (20, (20, 25)), (30, (30, 40)), (50, (50, 20))]
    + [(100, (50, 40))],
)
def test_the_schedule_by_images_per_class(ipc, expected):
    """Ten classes; from 26 images per class on an epoch has two minibatches of 256 or more."""
    assert gradient_matching.make(model()).schedule(10 * ipc, 10) == expected
    assert gradient_matching.make(model(), match_steps=3, network_epochs=2).schedule(100, 10) == (3, 2)


@functools.cache
def ages(ipc, **options):
    method = gradient_matching.make(shallow(), batch_size=SIZE, **options)
    state = jax.jit(method.init)(jax.random.key(0), toy.synthetic(ipc), batch())
    step, states = jax.jit(method.step), [state]
    for t in range(7):
        states.append(step(jax.random.key(t), states[-1], batch())[0])
    return states


def test_a_network_is_trained_between_matches_and_not_after_the_last():
    states = ages(IPC, match_steps=3, network_epochs=2)
    assert [int(state.network.age) for state in states] == [0, 2, 4, 0, 2, 4, 0, 2]
    kernels = [np.asarray(state.network.variables["params"]["head"]["kernel"]) for state in states]
    moved = [np.abs(a - b).max() for a, b in zip(kernels, kernels[1:], strict=False)]
    assert max(moved[0], moved[1], moved[3]) < 0.05 < min(moved[2], moved[5])  # trained a little, replaced


def test_one_image_per_class_meets_a_fresh_network_every_time():
    states = ages(1)
    assert all(int(state.network.age) == 0 for state in states)
    kernels = [np.asarray(state.network.variables["params"]["head"]["kernel"]) for state in states]
    assert min(np.abs(a - b).max() for a, b in zip(kernels, kernels[1:], strict=False)) > 0.05


def test_training_is_plain_gradient_descent_on_the_classes():
    """A set that fits a minibatch is taken whole: two epochs are two steps at rate 0.01."""
    before, after = ages(IPC, match_steps=3, network_epochs=2)[:2]
    inputs, params = after.images.synthetic.inputs, before.network.variables["params"]

    def loss(params):
        logits = shallow().apply({"params": params}, inputs, True, None)[0].logits
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.repeat(jnp.arange(K), IPC)))

    for _ in range(2):
        params = jax.tree.map(lambda p, g: p - 0.01 * g, params, jax.grad(loss)(params))
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(after.network.variables["params"]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_training_draws_rows_and_augments_them():
    """Of ten rows a class, minibatches of four: the whole step again, from the same key, by hand."""
    method = gradient_matching.make(shallow(), augmentation=DSA, network_batch_size=4, network_epochs=1)
    augmented = jax.jit(augment.find(DSA))
    start, key = toy.synthetic(10), jax.random.key(3)
    network = jax.jit(lambda key: pool.fresh(key, shallow().init, optax.sgd(0.01)))(jax.random.key(1))
    trained = jax.jit(method._train)(key, network, start)
    params, seen = network.variables["params"], []

    @jax.jit
    @jax.grad
    def gradient(params, inputs, labels):
        logits = shallow().apply({"params": params}, inputs, True, None)[0].logits
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))

    for t in range(10 * K // 4 + bool(10 * K % 4)):
        key_rows, key_augment, _ = jax.random.split(jax.random.fold_in(key, t), 3)
        rows = sampling.iid(key_rows, 10 * K, 4)
        seen += rows.tolist()
        slope = gradient(params, augmented(key_augment, start.inputs[rows]), rows // 10)
        params = jax.tree.map(lambda p, g: p - 0.01 * g, params, slope)
    assert len({*seen}) > 10 * K // 2
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(trained.variables["params"]), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)


def test_images_move_with_momentum_one_half_that_outlives_the_network():
    states = ages(1)
    matching_gradient = jax.jit(gradient_matching.make(shallow(), batch_size=SIZE).matching_gradient)
    velocity = np.zeros(states[0].images.synthetic.inputs.shape)
    for t, (now, then) in enumerate(zip(states[:3], states[1:4], strict=True)):
        key = jax.random.split(jax.random.key(t), 3)[0]
        synthetic = now.images.synthetic
        _, gradient = matching_gradient(key, now.network.variables, synthetic, batch())
        velocity = 0.5 * velocity + np.asarray(gradient)
        np.testing.assert_allclose(then.images.synthetic.inputs, synthetic.inputs - 0.1 * velocity, atol=1e-9)


def test_batch_norm_is_matched_with_statistics_that_real_examples_moved():
    method = gradient_matching.make(model("batch"), batch_size=SIZE)
    variables = fresh("batch")
    moved = method._with_statistics(variables, batch())
    _, expected = model("batch").apply(variables, batch().inputs, True, None)  # fewer than 16 of a class: all of them
    same = jax.tree.map(lambda a, b: np.allclose(a, b, atol=1e-12), moved, expected)
    assert all(jax.tree.leaves(same))
    assert not np.allclose(*(jax.tree.leaves(v["batch_stats"])[0] for v in (moved, variables)))
    state = jax.jit(method.init)(jax.random.key(0), toy.synthetic(IPC), batch())
    state, metrics = jax.jit(method.step)(jax.random.key(1), state, batch())
    assert np.isfinite(metrics["loss"]) and int(state.network.age) == 50
    assert gradient_matching.make(model())._with_statistics(fresh(), batch()).keys() == {"params"}


def plain_distribution_loss(inputs, key, variables, augmentation):
    """DM's loss, one class after the other."""
    change, labels = augment.siamese(augmentation, K), np.repeat(np.arange(K), IPC)
    psi = lambda x: model().apply(variables, x, False, None)[0].features
    total = 0.0
    for c in range(K):
        real = jnp.mean(psi(of_class(change, key, batch().inputs, batch().labels, c)), 0)
        total += jnp.sum((real - jnp.mean(psi(of_class(change, key, inputs, labels, c)), 0)) ** 2)
    return total


@pytest.mark.parametrize("augmentation, rows_at_once", [("none", 4), (DSA, 0)])
def test_dm_is_a_plain_loop_over_classes(augmentation, rows_at_once):
    method = distribution_matching.make(model(), augmentation=augmentation, rows_at_once=rows_at_once)
    key, variables, synthetic = jax.random.key(2), fresh(), toy.synthetic(IPC)
    loss = jax.jit(jax.value_and_grad(lambda x: method.loss(x, synthetic, key, variables, batch())[0]))
    plain = jax.jit(jax.value_and_grad(lambda x: plain_distribution_loss(x, key, variables, augmentation)))
    for ours, theirs in zip(loss(synthetic.inputs), plain(synthetic.inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-12)


def test_dm_with_batch_norm_takes_real_and_synthetic_sets_as_one_batch_each():
    network = model("batch")
    method = distribution_matching.make(network, augmentation="none")
    variables, synthetic = fresh("batch"), toy.synthetic(IPC)
    psi = lambda x: np.asarray(network.apply(variables, x, True, None)[0].features)
    real = np.stack([psi(batch().inputs)[c::K].mean(0) for c in range(K)])
    learned = psi(synthetic.inputs).reshape(K, IPC, -1).mean(1)
    loss, _ = method.loss(synthetic.inputs, synthetic, jax.random.key(2), variables, batch())
    np.testing.assert_allclose(loss, np.sum((real - learned) ** 2), rtol=1e-10)


def test_dm_meets_another_network_every_step():
    method = distribution_matching.make(shallow(), batch_size=SIZE, augmentation="none", learning_rate=1e-9)
    state = method.init(jax.random.key(0), toy.synthetic(IPC), batch())
    step = jax.jit(method.step)
    losses = [float(step(jax.random.key(t), state, batch())[1]["loss"]) for t in range(3)]
    assert len(set(np.round(losses, 6))) == 3


def test_dm_brings_the_means_closer_in_networks_it_has_not_met():
    method = distribution_matching.make(shallow(), batch_size=SIZE, augmentation="none", learning_rate=1.0)
    start = method.init(jax.random.key(0), toy.synthetic(IPC), batch())
    end = start
    step = jax.jit(method.step)
    for t in range(50):
        end, _ = step(jax.random.key(t), end, batch())

    def loss(state):
        networks = [shallow().init(jax.random.key(1000 + t)) for t in range(5)]
        synthetic = method.synthetic(state)
        return sum(float(method.loss(synthetic.inputs, synthetic, jax.random.key(0), v, batch())[0]) for v in networks)

    assert loss(end) < 0.2 * loss(start)


def test_dm_is_zero_where_the_set_is_the_batch():
    """Class means of the same rows agree, whatever their order."""
    same = Synthetic(jnp.concatenate([batch().inputs[c::K] for c in range(K)]), jnp.repeat(jnp.eye(K), SIZE, 0))
    variables, loss = fresh(), jax.jit(distribution_matching.make(model(), augmentation=DSA).loss)
    for seed in range(3):
        value, _ = loss(same.inputs, same, jax.random.key(seed), variables, batch())
        np.testing.assert_allclose(value, 0, atol=1e-20)


def test_a_stored_image_is_its_tiles_row_by_row_enlarged():
    one, two = np.arange(4.0).reshape(4, 1, 1, 1), np.array([5.0, 9.0])
    flat = np.broadcast_to(one, (4, 8, 8, 1))
    stored = tiles.fold(flat, 2)
    np.testing.assert_allclose(stored[0, ::4, ::4, 0], [[0, 1], [2, 3]], atol=1e-12)
    np.testing.assert_allclose(tiles.unfold(stored, 2), flat, atol=1e-12)
    narrow = np.broadcast_to(two[:, None, None], (1, 2, 2, 1))  # four tiles of one pixel, rows of 5 and of 9
    np.testing.assert_allclose(tiles.unfold(jnp.asarray(narrow), 2)[:, 0, 0, 0], [5, 5, 9, 9])
    tile = np.tile(np.broadcast_to(two[:, None, None], (2, 2, 1)), (2, 2, 1))[None]  # four tiles of such rows
    rows = tiles.unfold(jnp.asarray(tile), 2)[:, :, 1, 0]
    np.testing.assert_allclose(rows, np.broadcast_to([5, 6, 8, 9], (4, 4)))  # bilinear: 3/4 of the nearer


def test_stored_images_move_along_the_gradient_of_what_networks_see():
    method = distribution_matching.make(model(), batch_size=SIZE, augmentation="none", formation=2, learning_rate=0.01)
    start = method.init(jax.random.key(0), toy.synthetic(4), batch())
    assert start.stored.shape == (3, 8, 8, 1) and method.synthetic(start).inputs.shape == (12, 8, 8, 1)
    key = jax.random.key(1)
    after, metrics = jax.jit(method.step)(key, start, batch())
    loss = jax.jit(lambda stored: method.step(key, start.replace(stored=stored), batch())[1]["loss"])
    moved = after.stored - start.stored
    slope = toy.central_difference(loss, start.stored, moved, 1e-4)
    np.testing.assert_allclose(slope, -jnp.vdot(moved, moved) / 0.01, rtol=1e-5)
    assert loss(after.stored) < metrics["loss"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"distance": "cosine"}, "unknown method.distance 'cosine'; did you mean 'cos'"),
        ({"augmentation": "dsa:flip_rotat"}, "unknown augmentation 'rotat'; did you mean 'rotate'"),
        ({"batch_size": 0}, "method.batch_size must be positive, not 0"),
        ({"momentum": 1.0}, r"method.momentum must lie in \[0, 1\), not 1.0"),
        ({"match_steps": -1}, "must not be negative"),
        ({"formation": 0}, "method.formation must be positive, not 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(UserError, match=message):
        gradient_matching.make(model(), **options)


def test_bad_sets():
    flat = Synthetic(jnp.zeros((3, 5)), jnp.eye(3))
    method = distribution_matching.make(model())
    with pytest.raises(UserError, match="wants images .H, W, C., not examples .5,.; leave it out"):
        method.step(jax.random.key(1), method.init(jax.random.key(0), flat, batch()), Batch(flat.inputs, jnp.arange(3)))
    with pytest.raises(UserError, match="4 synthetic examples do not divide over 3 classes"):
        odd = Synthetic(jnp.zeros((4, *toy.SHAPE)), jnp.zeros((4, 3)))
        gradient_matching.make(model()).init(jax.random.key(0), odd, batch())
    for formation, message in ((3, "must divide the sides of images .8, 8, 1."), (2, "be a multiple of that, not 2")):
        with pytest.raises(UserError, match=f"method.formation {formation} .*{message}"):
            gradient_matching.make(model(), formation=formation).init(jax.random.key(0), toy.synthetic(2), batch())
    with pytest.raises(UserError, match="classes_together 2 does not divide 3 classes"):
        gradient_matching.make(model(), classes_together=2).init(jax.random.key(0), toy.synthetic(1), batch())


@pytest.mark.parametrize("method", [distribution_matching, gradient_matching, trajectory_matching])
def test_rows_of_other_classes_than_their_places_say_are_refused(method):
    check = method.make(model()).check_start
    check(toy.synthetic(2))
    start = toy.synthetic(2)
    with pytest.raises(UserError, match="in the order of the classes.* leave config.init_labels empty"):
        check(start._replace(labels=start.labels[::-1]))
    with pytest.raises(UserError, match="in the order of the classes"):  # by the loop, before it compiles anything
        loop.begin(method.make(model()), toy.dataset(), start._replace(labels=-start.labels), None, None)
