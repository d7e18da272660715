"""Crops against numpy and PIL by hand, boxes against their distribution, views against their words."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from rcig import views
from rcig.augment.crops import crop, draw_boxes
from rcig.errors import UserError
from rcig.views import Labelling, View, kept

KEY = jax.random.key(0)
draw_view = jax.jit(views.draw_view, static_argnames="spec")
apply_view = jax.jit(views.apply_view, static_argnames="mix")
crop = jax.jit(crop, static_argnames="side")
draw_boxes = jax.jit(draw_boxes, static_argnames=("num", "side", "max_ratio"))


def resized(image, side):
    """Bring (h, w) to (side, side) by the textbook: half-pixel centres, clamped, pixel by pixel."""
    height, width = image.shape
    result = np.zeros((side, side))
    for p in range(side):
        for q in range(side):
            y = min(max((p + 0.5) * height / side - 0.5, 0), height - 1)
            x = min(max((q + 0.5) * width / side - 0.5, 0), width - 1)
            top, left = min(int(y), height - 2) if height > 1 else 0, min(int(x), width - 2) if width > 1 else 0
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            upper = image[top, left] * (1 - (x - left)) + image[top, right] * (x - left)
            lower = image[bottom, left] * (1 - (x - left)) + image[bottom, right] * (x - left)
            result[p, q] = upper * (1 - (y - top)) + lower * (y - top)
    return result


@pytest.mark.parametrize("box", [(0, 0, 8, 8), (1, 2, 3, 5), (7, 7, 1, 1), (0, 4, 8, 1), (2, 0, 6, 4)])
def test_crop_is_crop_then_resize(box):
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3))
    top, left, height, width = box
    found = crop(jnp.asarray(images), jnp.array([box, (0, 0, 8, 8)]), side=8)
    for channel in range(3):
        wanted = resized(images[0, top : top + height, left : left + width, channel], 8)
        np.testing.assert_allclose(found[0, :, :, channel], wanted, atol=5e-6)  # weights are float32
        np.testing.assert_allclose(found[1, :, :, channel], images[1, :, :, channel], atol=5e-6)


@pytest.mark.parametrize("side", [16, 8, 3])  # a box of 7 x 10: larger, mixed, smaller
def test_crop_agrees_with_pil(side):
    image = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    wanted = Image.fromarray(image).crop((3, 2, 13, 9)).resize((side, side), Image.Resampling.BILINEAR)
    found = crop(jnp.asarray(image)[None, :, :, None], jnp.array([2, 3, 7, 10]), side=side)
    np.testing.assert_allclose(found[0, :, :, 0], np.asarray(wanted), atol=1e-5)


def test_crop_never_looks_outside_its_box():
    image = jnp.full((1, 8, 8, 1), jnp.nan).at[:, 2:5, 3:7].set(1.0)
    grads = jax.grad(lambda x: crop(x, jnp.array([2, 3, 3, 4]), side=8).sum())(jnp.nan_to_num(image))
    assert np.all(np.asarray(grads)[0, 2:5, 3:7] > 0)
    np.testing.assert_allclose(np.asarray(grads).sum(), 64, rtol=1e-6)  # hence nothing outside
    np.testing.assert_allclose(np.asarray(grads)[0, 2:5, 3:7].sum(), 64, rtol=1e-6)


def test_boxes_lie_inside_and_follow_their_distribution():
    side, low = 64, 0.2
    boxes = np.asarray(draw_boxes(KEY, 20_000, side, low))
    top, left, height, width = boxes.T
    assert boxes.dtype == np.int32 and boxes.min() >= 0 and min(height.min(), width.min()) >= 1
    assert np.all(top + height <= side) and np.all(left + width <= side)
    ratio = width / height
    assert ratio.min() > 0.75 - 0.03 and ratio.max() < 4 / 3 + 0.06  # to rounding
    small = height * width < 0.5 * side**2  # where nearly every draw fits: log-uniform, uniform area and place
    assert abs(np.mean(np.log(ratio[small]))) < 0.01
    assert abs(np.std(np.log(ratio[small])) - 2 * math.log(4 / 3) / math.sqrt(12)) < 0.01
    share = height[small] * width[small] / side**2
    assert share.min() > low - 0.02 and abs(share.mean() - (low + 0.5) / 2) < 0.01
    assert abs(np.mean(top[small] / (side - height[small])) - 0.5) < 0.01


def test_boxes_of_the_whole_image_and_squares():
    assert np.all(draw_boxes(KEY, 50, 8, 1.0, max_ratio=1.0) == np.array([[0, 0, 8, 8]]))
    boxes = np.asarray(draw_boxes(KEY, 500, 32, 0.1, max_ratio=1.0))
    assert np.all(boxes[:, 2] == boxes[:, 3]) and len(set(boxes[:, 2])) > 10


IMAGES = jnp.asarray(np.random.default_rng(2).normal(size=(10, 8, 8, 2)).astype(np.float32))
ROWS = jnp.array([3, 1, 4, 5, 9])


def view_of(mix, key=KEY, **options):
    return draw_view(key, IMAGES, ROWS, Labelling(batch_size=5, mix=mix, **options))


def test_a_whole_unflipped_view_is_the_image():
    view = view_of("none", min_scale=1.0, flip=False)
    view = view._replace(box=jnp.tile(jnp.array([[0, 0, 8, 8]]), (5, 1)))
    np.testing.assert_allclose(apply_view(IMAGES, view, mix="none"), IMAGES[ROWS], atol=1e-6)
    flipped = apply_view(IMAGES, view._replace(flip=jnp.ones(5, bool)), mix="none")
    np.testing.assert_allclose(flipped, IMAGES[ROWS][:, :, ::-1], atol=1e-6)


def test_cutmix_pastes_the_partner():
    view = view_of("cutmix")
    plain = np.asarray(apply_view(IMAGES, view, mix="none"))
    top, left, height, width = np.asarray(view.mix_box)
    wanted = plain.copy()
    wanted[:, top : top + height, left : left + width] = plain[view.partner, top : top + height, left : left + width]
    np.testing.assert_array_equal(apply_view(IMAGES, view, mix="cutmix"), wanted)
    assert sorted(np.asarray(view.partner)) == list(range(5))


def test_mixup_and_cutout():
    view = view_of("mixup")
    plain, share = np.asarray(apply_view(IMAGES, view, mix="none")), float(view.strength)
    np.testing.assert_allclose(
        apply_view(IMAGES, view, mix="mixup"), share * plain + (1 - share) * plain[view.partner], atol=1e-6
    )
    view = view_of("cutout")
    found = np.asarray(apply_view(IMAGES, view, mix="cutout"))
    for image, before, (top, left, height, width), fill in zip(
        found,
        np.array(apply_view(IMAGES, view, mix="none")),
        np.asarray(view.mix_box),
        np.asarray(view.fill),
        strict=True,
    ):
        before[top : top + height, left : left + width] = fill
        np.testing.assert_array_equal(image, before)


def test_cutmix_boxes_cover_half_on_average():
    spec = Labelling(batch_size=5)
    boxes = jax.vmap(lambda key: draw_view(key, jnp.zeros((5, 64, 64, 1)), jnp.arange(5), spec).mix_box)
    top, left, height, width = np.asarray(boxes(jax.random.split(KEY, 2000))).T
    assert top.min() >= 0 and left.min() >= 0 and (top + height).max() <= 64 and (left + width).max() <= 64
    # of E[s^2] clipped: a side s = sqrt(u) around a uniform centre keeps s - s^2/4 of it in each direction
    u = (np.arange(10_000) + 0.5) / 10_000
    assert abs(np.mean(height * width) / 64**2 - np.mean((np.sqrt(u) - u / 4) ** 2)) < 0.02


def test_labelling_refuses():
    for options in ({"mix": "cutmx"}, {"epochs": 0}, {"min_scale": 0.0}, {"pruning_ratio": 1.0}):
        with pytest.raises(UserError):
            Labelling(**options)
    with pytest.raises(UserError, match="at most the 7 images"):
        Labelling(batch_size=8).batches(7)
    assert kept(23_400, 0.9) == 2340 and kept(7, 0) == 7


def test_view_is_a_plain_tree():
    assert len(jax.tree.leaves(view_of("none"))) == 3 and isinstance(view_of("none"), View)
