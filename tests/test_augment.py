"""Every operation against what it says, on small arrays and with chosen draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig import augment
from rcig.augment import _dc, _dsa, _rcig, change
from rcig.augment.change import Change, Warp
from rcig.errors import UserError

SIX = "flip_color_crop_rotate_translate_cutout"
DSA = "dsa:color_crop_cutout_flip_scale_rotate"
NAMES = [SIX, "crop_rotate_translate_cutout", "flip", "dc:crop_scale_rotate", "dc:crop_noise", DSA, "dsa:flip+rotate"]


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(0), (5, 8, 6, 3))


@pytest.fixture
def square():
    return jax.random.normal(jax.random.key(1), (4, 8, 8, 2))


def warp(images, matrix=((1.0, 0.0), (0.0, 1.0)), offset=(0.0, 0.0), fill=None):
    def each(value):
        return jnp.broadcast_to(jnp.asarray(value)[None], (len(images), *np.shape(value)))

    return np.asarray(change.warp(images, Warp(each(matrix), each(offset), None if fill is None else each(fill))))


def operate(operation, draws, images):
    """Apply one operation with the given draws for every image."""
    draws = jnp.tile(jnp.asarray(draws, images.dtype)[None], (len(images), 1))
    return np.asarray(change.apply(jax.random.key(0), images, operation(draws, images)))


def test_identity_warp_is_exact(images):
    np.testing.assert_array_equal(warp(images), images)
    np.testing.assert_array_equal(warp(images, fill=(9.0, 9.0, 9.0)), images)


def test_whole_pixel_translation_repeats_the_edge(images):
    rows, columns = np.clip(np.arange(8) + 2, 0, 7), np.clip(np.arange(6) - 1, 0, 5)
    np.testing.assert_array_equal(warp(images, offset=(2.0, -1.0)), np.asarray(images)[:, rows][:, :, columns])


def test_whole_pixel_translation_with_fill(images):
    expected = np.full(images.shape, 7.0)
    expected[:, :-2, 1:] = images[:, 2:, :-1]
    np.testing.assert_array_equal(warp(images, offset=(2.0, -1.0), fill=(7.0, 7.0, 7.0)), expected)


def test_half_pixel_translation_averages(images):
    x = np.asarray(images)
    expected = np.concatenate([(x[:, 1:] + x[:, :-1]) / 2, x[:, -1:]], axis=1)
    np.testing.assert_allclose(warp(images, offset=(0.5, 0.0)), expected, atol=1e-12)


def test_half_a_pixel_outside_mixes_with_the_fill(images):
    mixed = warp(images, offset=(0.5, 0.0), fill=(2.0, 2.0, 2.0))
    np.testing.assert_allclose(mixed[:, -1], (np.asarray(images)[:, -1] + 2) / 2, atol=1e-12)


def test_quarter_turns_are_exact(square):
    matrix = change.rotation(jnp.full(1, np.pi / 2))[0]
    np.testing.assert_allclose(warp(square, matrix), np.rot90(square, axes=(1, 2)), atol=1e-12)
    np.testing.assert_allclose(warp(square, change.rotation(jnp.zeros(1))[0]), square, atol=1e-12)


def test_bilinear_is_exact_on_linear_images():
    rows, columns = np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij")
    image = jnp.asarray(2 * rows - 3 * columns + 1)[None, :, :, None]
    matrix, offset = np.array([[0.5, 0.2], [-0.1, 0.6]]), np.array([0.3, -0.4])
    source = np.einsum("ij,jhw->ihw", matrix, np.stack([rows, columns]) - 4) + 4 + offset[:, None, None]
    expected = 2 * source[0] - 3 * source[1] + 1
    np.testing.assert_allclose(warp(image, matrix, offset)[0, :, :, 0], expected, atol=1e-12)


def test_flip_mirrors_below_one_half_and_twice_is_the_identity(images):
    mirrored = operate(_rcig.flip, [0.3, 0, 0], images)
    np.testing.assert_array_equal(mirrored, np.asarray(images)[:, :, ::-1])
    np.testing.assert_array_equal(operate(_rcig.flip, [0.3, 0, 0], jnp.asarray(mirrored)), images)
    np.testing.assert_array_equal(operate(_rcig.flip, [0.7, 0, 0], images), images)


def test_color_formula(images):
    x = np.asarray(images) + 0.25 * (2 * 0.9 - 1)
    mean = x.mean((1, 2, 3), keepdims=True)
    x = np.exp(0.25 * (2 * 0.2 - 1)) * (x - mean) + mean
    mean = x.mean(3, keepdims=True)
    x = np.exp(0.25 * (2 * 0.6 - 1)) * (x - mean) + mean
    np.testing.assert_allclose(operate(_rcig.color, [0.9, 0.2, 0.6], images), x, atol=1e-12)


def test_smallest_crop_in_its_furthest_corner_touches_the_border(images):
    """A window of 0.8 of the side, moved by 0.1 of the side, ends where the image ends."""
    part = _rcig.crop(jnp.zeros((1, 3)), images[:1])
    np.testing.assert_allclose(part.warp.matrix[0], 0.8 * np.eye(2), atol=1e-12)
    np.testing.assert_allclose(part.warp.offset[0], [-0.1 * 8, -0.1 * 6], atol=1e-12)


@pytest.mark.parametrize("draws", [(0.5, 0.5, 0.5), (0.5, 0.1, 0.9)])
def test_crop_of_full_size_is_the_identity(images, draws):
    np.testing.assert_allclose(operate(_rcig.crop, draws, images), images, atol=1e-6)


def test_rotate_and_translate_ranges(images):
    still = operate(_rcig.rotate, [0.5, 0, 0], images)
    np.testing.assert_allclose(still, images, atol=1e-12)
    np.testing.assert_allclose(operate(_rcig.translate, [0.5, 0.5, 0], images), images, atol=1e-12)
    furthest = _rcig.rotate(jnp.zeros((1, 3)), images[:1]).warp.matrix[0]
    np.testing.assert_allclose(furthest, change.rotation(jnp.deg2rad(jnp.array([-15.0])))[0], atol=1e-12)
    moved = operate(_rcig.translate, [1.0, 0.5, 0], images)  # an eighth of 8 rows: one pixel
    np.testing.assert_allclose(moved[:, :-1], np.asarray(images)[:, 1:], atol=1e-12)


@pytest.mark.parametrize(
    "draws, corner", [((0.0, 0.0, 0), (0, 0)), ((0.999, 0.999, 0), (6, 5)), ((0.5, 0.3, 0), (3, 1))]
)
def test_cutout_hole(images, draws, corner):
    result = operate(_rcig.cutout, draws, images + 10)
    expected = np.asarray(images + 10).copy()
    expected[:, corner[0] : corner[0] + 2, corner[1] : corner[1] + 1] = 0  # a quarter of 8 rows and of 6 columns
    np.testing.assert_array_equal(result, expected)


def test_dc_crop_moves_whole_pixels_and_fills_with_the_mean(square):
    mean = np.asarray(square).mean((0, 1, 2))
    expected = np.broadcast_to(mean, square.shape).copy()
    expected[:, 4:, :-3] = square[:, :-4, 3:]
    np.testing.assert_allclose(operate(_dc.crop, [0.0, 0.999, 0], square), expected, atol=1e-12)


def test_dc_scale_enlarges_and_fills_with_zero(square):
    part = _dc.scale(jnp.array([[0.0, 0.5, 0]]), square[:1]).warp
    np.testing.assert_allclose(part.matrix[0], [[1 / 0.8, 0], [0, 1.0]], atol=1e-12)
    np.testing.assert_array_equal(part.fill, np.zeros((1, 2)))


def test_dc_rotate_takes_whole_degrees(square):
    for draw, degrees in ((0.0, -45), (0.999, 44), (0.5, 0)):
        matrix = _dc.rotate(jnp.full((1, 3), draw), square[:1]).warp.matrix
        np.testing.assert_allclose(matrix, change.rotation(jnp.deg2rad(jnp.array([float(degrees)]))), atol=1e-12)


def test_dc_noise_is_small_and_not_nothing(square):
    change = np.asarray(augment.find("dc:noise")(jax.random.key(3), square) - square)
    assert 0.0007 < change.std() < 0.0013


@pytest.mark.parametrize("name", NAMES)
def test_same_key_same_result_other_key_other_result(images, name):
    fn = jax.jit(augment.find(name))
    key, other = jax.random.split(jax.random.key(5))
    first = fn(key, images)
    assert first.shape == images.shape and first.dtype == images.dtype
    np.testing.assert_array_equal(first, fn(key, images))
    np.testing.assert_allclose(first, augment.find(name)(key, images), atol=1e-12)
    assert not np.array_equal(first, fn(other, images))


@pytest.mark.parametrize("name", [SIX, "dc:crop_scale_rotate_noise"])
def test_float32_stays_float32(images, name):
    assert augment.find(name)(jax.random.key(0), images.astype(jnp.float32)).dtype == jnp.float32


def test_every_operation_is_drawn_about_equally_often(monkeypatch):
    operations = [lambda draws, images, k=k: Change(noise=jnp.full(len(images), float(k))) for k in range(3)]
    monkeypatch.setattr(augment, "apply", lambda key, images, change: change.noise)
    drawn = augment.one_of(operations, _dc.nothing)(jax.random.key(0), jnp.zeros((3000, 2, 2, 1)))
    counts = np.bincount(np.asarray(drawn).astype(int), minlength=3)
    assert (np.abs(counts - 1000) < 100).all()  # 3.9 standard deviations


def test_one_operation_an_image(images):
    """Of flip and cutout, an image gets one: either it is mirrored or has a hole, never both."""
    many = jnp.tile(images[:1] + 10, (200, 1, 1, 1))
    result = np.asarray(augment.find("flip_cutout")(jax.random.key(1), many))
    has_hole = (result == 0).any((1, 2, 3))
    is_mirrored = (result == np.asarray(many)[:, :, ::-1]).mean((1, 2, 3)) > 0.8
    is_same = (result == np.asarray(many)).mean((1, 2, 3)) > 0.8
    assert (has_hole <= is_same).all() and (is_mirrored ^ is_same).all()
    assert 60 < has_hole.sum() < 140 and 25 < is_mirrored.sum() < 75


@pytest.mark.parametrize("name", ["", "none"])
def test_nothing(images, name):
    assert augment.find(name)(jax.random.key(0), images) is images


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UserError, match="unknown augmentation 'rotat'; did you mean 'rotate'.*cutout"):
        augment.find("flip_rotat")
    with pytest.raises(UserError, match="family of augmentations 'xy'.*dc"):
        augment.find("xy:flip")


# DSA


def dsa(operation, draws, images):
    return operate(_dsa.OPERATIONS[operation], draws, images)


def shifted(images, down, right):
    """Return output (i, j) = input (i + down, j + right), 0 outside."""
    height, width = images.shape[1:3]
    padded = np.pad(np.asarray(images), ((0, 0), (height, height), (width, width), (0, 0)))
    return padded[:, height + down : 2 * height + down, width + right : 2 * width + right]


def test_dsa_color_is_brightness_then_saturation_then_contrast(images):
    x = np.asarray(images) + (0.9 - 0.5)
    mean = x.mean(3, keepdims=True)
    x = (x - mean) * 2 * 0.7 + mean
    mean = x.mean((1, 2, 3), keepdims=True)
    x = (x - mean) * (0.2 + 0.5) + mean
    np.testing.assert_allclose(dsa("color", [0.9, 0.2, 0.7], images), x, atol=1e-12)


@pytest.mark.parametrize("draws, move", [((0, 0.999, 0), (-1, 1)), ((0.999, 0.5, 0), (1, 0)), ((0.4, 0, 0), (0, -1))])
def test_dsa_crop_moves_by_an_eighth_of_the_side_at_most(images, draws, move):
    """8 by 6 pixels move by floor(1.5) = 1 row and floor(1.25) = 1 column."""
    np.testing.assert_allclose(dsa("crop", draws, images), shifted(images, *move), atol=1e-12)


@pytest.mark.parametrize("side, reach", [(28, 4), (32, 4), (64, 8), (8, 1)])
def test_dsa_crop_reaches_what_the_reference_does(side, reach):
    draws = jnp.array([[0, 0.9999, 0]])
    np.testing.assert_array_equal(_dsa.crop(draws, jnp.zeros((1, side, side, 1))).warp.offset, [[-reach, reach]])


@pytest.mark.parametrize(
    "draws, rows, columns",
    [((0, 0.999, 0), (0, 2), (6, 8)), ((0.5, 0.3, 0), (2, 6), (0, 4)), ((0.999, 0, 0), (6, 8), (0, 2))],
)
def test_dsa_cutout_has_its_centre_anywhere_and_its_corners_outside(square, draws, rows, columns):
    """Side 4 on 8 pixels; centres are 0..8: the last of them is drawn too."""
    expected = np.array(square) + 10
    expected[:, slice(*rows), slice(*columns)] = 0
    np.testing.assert_array_equal(dsa("cutout", draws, square + 10), expected)


def test_dsa_cutout_of_odd_side_has_a_centre_less():
    """Side 3 on 5 pixels; centres are 0..4, and the hole begins one pixel before."""
    hole = _dsa.cutout(jnp.array([[0.999, 0, 0]]), jnp.zeros((1, 5, 5, 1))).hole
    np.testing.assert_array_equal(hole, [[3, -1, 3, 3]])


def test_dsa_cutout_cuts_half_of_each_side():
    """Of 8 rows 4 about centres 0..8, of 21 columns 11 about centres 0..20."""
    hole = _dsa.cutout(jnp.array([[0.999, 0.999, 0]]), jnp.zeros((1, 8, 21, 1))).hole
    np.testing.assert_array_equal(hole, [[6, 15, 4, 11]])


def test_dsa_flip_scale_and_rotate(square):
    np.testing.assert_allclose(dsa("flip", [0.4, 0, 0], square), np.asarray(square)[:, :, ::-1], atol=1e-12)
    np.testing.assert_allclose(dsa("flip", [0.6, 0, 0], square), square, atol=1e-12)
    part = _dsa.scale(jnp.array([[0.0, 1.0, 0]]), square[:1]).warp
    np.testing.assert_allclose(part.matrix[0], [[1 / 1.2, 0], [0, 1.2]], atol=1e-12)
    turned = _dsa.rotate(jnp.array([[1.0, 0, 0]]), square[:1]).warp
    cos, sin = np.cos(np.pi / 12), np.sin(np.pi / 12)  # of (x, y): [[cos, -sin], [sin, cos]]; ours is of (y, x)
    np.testing.assert_allclose(turned.matrix[0], [[cos, sin], [-sin, cos]], atol=1e-12)
    for warped in (part, turned):
        np.testing.assert_array_equal(warped.fill, np.zeros((1, 2)))


def test_dsa_scale_interpolates_between_corners_that_are_aligned():
    """Factor 1.2 on 5 pixels asks for the row -0.4 first: 0.6 of row 0 and 0.4 of the outside, which is 0."""
    image = jnp.broadcast_to(jnp.arange(1.0, 6.0).reshape(1, 5, 1, 1), (1, 5, 5, 1))
    shrunk = dsa("scale", [1.0, (1 - 1 / 1.2) / (1.2 - 1 / 1.2), 0], image)[0, :, :, 0]
    expected = [0.6 * 1, 0.8 * 2 + 0.2 * 1, 3, 0.8 * 4 + 0.2 * 5, 0.6 * 5]
    np.testing.assert_allclose(shrunk, np.tile(np.array(expected)[:, None], 5), atol=1e-12)


def test_dsa_draws_one_operation_for_the_batch_and_parameters_for_each_image(square):
    many = jnp.tile(square[:1] + 10, (40, 1, 1, 1))
    for seed in range(6):
        result = np.asarray(augment.find("dsa:flip_cutout")(jax.random.key(seed), many))
        has_hole = (result == 0).any((1, 2, 3))
        assert has_hole.all() or not has_hole.any()
        assert len(np.unique(result, axis=0)) > 1


def test_every_operation_in_order(square):
    """Mode M: the draws of operation i are those of key i."""
    key, expected = jax.random.key(7), square
    for number, name in enumerate(("crop", "color", "rotate")):
        draws = augment.per_image(jax.random.split(jax.random.fold_in(key, number))[0], square)
        expected = change.apply(key, expected, _dsa.OPERATIONS[name](draws[:, 1:], expected))
    np.testing.assert_allclose(augment.find("dsa:crop+color+rotate")(key, square), expected, atol=1e-12)


@pytest.mark.parametrize("name", [DSA, "dsa:color+crop+cutout+flip+scale+rotate"])
def test_siamese_changes_the_images_of_a_group_alike(square, name):
    """However many there are: real and synthetic images of a class meet the same draw, other classes another."""
    change = jax.jit(augment.siamese(name, 3))
    for seed in range(4):
        key = jax.random.key(seed)
        real = np.asarray(change(key, jnp.tile(square[:1], (6, 1, 1, 1)), jnp.array([0, 1, 2, 0, 1, 2])))
        few = np.asarray(change(key, jnp.tile(square[:1], (3, 1, 1, 1)), jnp.array([2, 1, 0])))
        np.testing.assert_allclose(real[:3], real[3:], atol=1e-12)
        np.testing.assert_allclose(real[:3], few[::-1], atol=1e-12)
        assert not np.allclose(real[0], real[1])


def test_siamese_operations_are_drawn_about_equally_often():
    images = jnp.zeros((900, 4, 4, 1)).at[:, 0, 0].set(1.0)
    change = augment.siamese("dsa:flip_cutout_color", 900)
    result = np.asarray(change(jax.random.key(0), images, jnp.arange(900)))
    assert 240 < np.any(result[:, 3, 3] != 0, axis=1).sum() < 360  # a colour changes every pixel, else 0 stays 0


@pytest.mark.parametrize("operation", _dsa.OPERATIONS)
def test_dsa_is_differentiable_in_the_images(square, operation):
    fn = augment.find(f"dsa:{operation}")
    direction = jax.random.normal(jax.random.key(8), square.shape)
    value = lambda x: jnp.sum(jnp.sin(fn(jax.random.key(9), x)))
    slope = (value(square + 1e-5 * direction) - value(square - 1e-5 * direction)) / 2e-5
    np.testing.assert_allclose(jnp.vdot(jax.grad(value)(square), direction), slope, rtol=1e-7)
