"""Every operation against what it says, on small arrays and with chosen draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcig import augment
from rcig.augment import Change, Warp
from rcig.errors import UserError

SIX = "flip_color_crop_rotate_translate_cutout"
NAMES = [SIX, "crop_rotate_translate_cutout", "flip", "dc:crop_scale_rotate", "dc:crop_noise"]


@pytest.fixture
def images():
    return jax.random.normal(jax.random.key(0), (5, 8, 6, 3))


@pytest.fixture
def square():
    return jax.random.normal(jax.random.key(1), (4, 8, 8, 2))


def warp(images, matrix=((1.0, 0.0), (0.0, 1.0)), offset=(0.0, 0.0), fill=None):
    def each(value):
        return jnp.broadcast_to(jnp.asarray(value)[None], (len(images), *np.shape(value)))

    return np.asarray(augment.warp(images, Warp(each(matrix), each(offset), None if fill is None else each(fill))))


def operate(operation, draws, images):
    """Apply one operation with the given draws for every image."""
    draws = jnp.tile(jnp.asarray(draws, images.dtype)[None], (len(images), 1))
    return np.asarray(augment.apply(jax.random.key(0), images, operation(draws, images)))


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
    matrix = augment.rotation(jnp.full(1, np.pi / 2))[0]
    np.testing.assert_allclose(warp(square, matrix), np.rot90(square, axes=(1, 2)), atol=1e-12)
    np.testing.assert_allclose(warp(square, augment.rotation(jnp.zeros(1))[0]), square, atol=1e-12)


def test_bilinear_is_exact_on_linear_images():
    rows, columns = np.meshgrid(np.arange(9.0), np.arange(9.0), indexing="ij")
    image = jnp.asarray(2 * rows - 3 * columns + 1)[None, :, :, None]
    matrix, offset = np.array([[0.5, 0.2], [-0.1, 0.6]]), np.array([0.3, -0.4])
    source = np.einsum("ij,jhw->ihw", matrix, np.stack([rows, columns]) - 4) + 4 + offset[:, None, None]
    expected = 2 * source[0] - 3 * source[1] + 1
    np.testing.assert_allclose(warp(image, matrix, offset)[0, :, :, 0], expected, atol=1e-12)


def test_flip_mirrors_below_one_half_and_twice_is_the_identity(images):
    mirrored = operate(augment._flip, [0.3, 0, 0], images)
    np.testing.assert_array_equal(mirrored, np.asarray(images)[:, :, ::-1])
    np.testing.assert_array_equal(operate(augment._flip, [0.3, 0, 0], jnp.asarray(mirrored)), images)
    np.testing.assert_array_equal(operate(augment._flip, [0.7, 0, 0], images), images)


def test_color_formula(images):
    x = np.asarray(images) + 0.25 * (2 * 0.9 - 1)
    mean = x.mean((1, 2, 3), keepdims=True)
    x = np.exp(0.25 * (2 * 0.2 - 1)) * (x - mean) + mean
    mean = x.mean(3, keepdims=True)
    x = np.exp(0.25 * (2 * 0.6 - 1)) * (x - mean) + mean
    np.testing.assert_allclose(operate(augment._color, [0.9, 0.2, 0.6], images), x, atol=1e-12)


def test_smallest_crop_in_its_furthest_corner_touches_the_border(images):
    """A window of 0.8 of the side, moved by 0.1 of the side, ends where the image ends."""
    part = augment._crop(jnp.zeros((1, 3)), images[:1])
    np.testing.assert_allclose(part.warp.matrix[0], 0.8 * np.eye(2), atol=1e-12)
    np.testing.assert_allclose(part.warp.offset[0], [-0.1 * 8, -0.1 * 6], atol=1e-12)


@pytest.mark.parametrize("draws", [(0.5, 0.5, 0.5), (0.5, 0.1, 0.9)])
def test_crop_of_full_size_is_the_identity(images, draws):
    np.testing.assert_allclose(operate(augment._crop, draws, images), images, atol=1e-6)


def test_rotate_and_translate_ranges(images):
    still = operate(augment._rotate, [0.5, 0, 0], images)
    np.testing.assert_allclose(still, images, atol=1e-12)
    np.testing.assert_allclose(operate(augment._translate, [0.5, 0.5, 0], images), images, atol=1e-12)
    furthest = augment._rotate(jnp.zeros((1, 3)), images[:1]).warp.matrix[0]
    np.testing.assert_allclose(furthest, augment.rotation(jnp.deg2rad(jnp.array([-15.0])))[0], atol=1e-12)
    moved = operate(augment._translate, [1.0, 0.5, 0], images)  # an eighth of 8 rows: one pixel
    np.testing.assert_allclose(moved[:, :-1], np.asarray(images)[:, 1:], atol=1e-12)


@pytest.mark.parametrize(
    "draws, corner", [((0.0, 0.0, 0), (0, 0)), ((0.999, 0.999, 0), (6, 4)), ((0.5, 0.3, 0), (3, 1))]
)
def test_cutout_hole(images, draws, corner):
    result = operate(augment._cutout, draws, images + 10)
    expected = np.asarray(images + 10).copy()
    expected[:, corner[0] : corner[0] + 2, corner[1] : corner[1] + 2] = 0
    np.testing.assert_array_equal(result, expected)


def test_dc_crop_moves_whole_pixels_and_fills_with_the_mean(square):
    mean = np.asarray(square).mean((0, 1, 2))
    expected = np.broadcast_to(mean, square.shape).copy()
    expected[:, 4:, :-3] = square[:, :-4, 3:]
    np.testing.assert_allclose(operate(augment._dc_crop, [0.0, 0.999, 0], square), expected, atol=1e-12)


def test_dc_scale_enlarges_and_fills_with_zero(square):
    part = augment._dc_scale(jnp.array([[0.0, 0.5, 0]]), square[:1]).warp
    np.testing.assert_allclose(part.matrix[0], [[1 / 0.8, 0], [0, 1.0]], atol=1e-12)
    np.testing.assert_array_equal(part.fill, np.zeros((1, 2)))


def test_dc_rotate_takes_whole_degrees(square):
    for draw, degrees in ((0.0, -45), (0.999, 44), (0.5, 0)):
        matrix = augment._dc_rotate(jnp.full((1, 3), draw), square[:1]).warp.matrix
        np.testing.assert_allclose(matrix, augment.rotation(jnp.deg2rad(jnp.array([float(degrees)]))), atol=1e-12)


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
    drawn = augment.one_of(operations, augment.dc_nothing)(jax.random.key(0), jnp.zeros((3000, 2, 2, 1)))
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
