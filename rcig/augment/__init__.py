"""Random changes of images, as pure functions ``(key, images (B,H,W,C)) -> images``, differentiable in the images.

    augment = find("flip_color_crop_rotate_translate_cutout")   # RCIG's and FRePo's family
    augment = find("dc:crop_scale_rotate")                      # DC's family
    augment = find("dsa:color_crop_cutout_scale_rotate")        # DSA's family, its mode S, as its networks are trained
    augment = find("dsa:color+crop+cutout+scale+rotate")        # its mode M: every operation, in this order
    augment = find("")                                          # nothing
    change = siamese("dsa:color_crop_cutout_scale_rotate", num_groups=10)   # as its images are matched
    real, synthetic = change(key, real, real_labels), change(key, synthetic, labels)   # one draw for each class

To add a family: a file with its ``OPERATIONS`` and ``nothing`` (the identity), and a line in ``_FAMILIES``. An
operation is a `change.Operation`: a warp, colours, noise or a hole; what is none of these is a new part of `Change`.

Images are in model-input space (standardised, or whitened), as in the references.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from rcig.augment import _dc, _dsa, _rcig
from rcig.augment.change import Change, Operation, apply, whole
from rcig.errors import UserError, unknown
from rcig.types import Key

Augmentation = Callable[[Key, jax.Array], jax.Array]
Draw = Callable[[Key, jax.Array], jax.Array]  # (key, images) -> (B, 4) in [0, 1): which operation, three parameters


def find(name: str, draw: Draw | None = None) -> Augmentation:
    """Return the augmentation called ``name``, or "" or "none" for nothing.

    ``[family:]operation_operation...`` draws one of the operations, ``[family:]operation+operation...`` applies all.
    Parameters are drawn for each image; the operation too, but for DSA's family, where it is one for the batch; unless
    ``draw`` says otherwise. Raises: UserError that lists the known families or operations; when it is called, for what
    is no image.
    """
    if name in ("", "none"):
        return lambda key, images: images
    family, _, listed = name.rpartition(":")
    if family not in _FAMILIES:
        raise unknown("family of augmentations", family, _FAMILIES)
    module, usual = _FAMILIES[family]
    together = "+" in listed
    called = listed.split("+" if together else "_")
    for operation in called:
        if operation not in module.OPERATIONS:
            raise unknown("augmentation", operation, module.OPERATIONS)
    operations = [module.OPERATIONS[operation] for operation in called]
    change = all_of(operations, draw or usual) if together else one_of(operations, module.nothing, draw or usual)

    def augment(key, images):
        if images.ndim != 4:
            raise UserError(
                f"augmentation {name!r} wants images (H, W, C), not examples {images.shape[1:]}; leave it out"
            )
        return change(key, images)

    return augment


def siamese(name: str, num_groups: int) -> Callable[[Key, jax.Array, jax.Array], jax.Array]:
    """Return ``(key, images (B,H,W,C), groups (B,)) -> images``: one draw, of operation and parameters, for each group.

    With the same key, real and synthetic images of a group (a class, in DSA and DM) are changed alike, however many
    there are of either. ``name`` as in `find`. Noise alone is not shared.
    """

    def augment(key, images, groups):
        def draw(key, images):
            return jax.random.uniform(key, (num_groups, 4), images.dtype)[groups]

        return find(name, draw)(key, images)

    return augment


def mirrored(images: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Append every image's mirror image, with the same labels. (M,H,W,C), (M,K) -> (2M,H,W,C), (2M,K).

    Raises: UserError for what is no image.
    """
    if images.ndim != 4:
        raise UserError(f"flip mirrors images (H, W, C), not examples {images.shape[1:]}; set it to False")
    return jnp.concatenate([images, jnp.flip(images, 2)]), jnp.concatenate([labels, labels])


def per_image(key: Key, images: jax.Array) -> jax.Array:
    """Draw an operation and parameters for each image."""
    return jax.random.uniform(key, (len(images), 4), images.dtype)


def per_batch(key: Key, images: jax.Array) -> jax.Array:
    """Draw one operation for the batch, and parameters for each image."""
    draws = per_image(key, images)
    return draws.at[:, 0].set(draws[0, 0])


def one_of(
    operations: Sequence[Operation], nothing: Callable[[jax.Array], Change], draw: Draw = per_image
) -> Augmentation:
    """Return an augmentation that applies to each image one of the operations, drawn afresh.

    ``nothing(images)`` is the identity, with a value for every part that an operation may leave None.
    """

    def augment(key, images):
        key_draws, key_noise = jax.random.split(key)
        draws = draw(key_draws, images)
        choice = whole(draws[:, 0], 0, len(operations)).astype(jnp.int32)  # (B,)
        drawn = [operation(draws[:, 1:], images) for operation in operations]
        return apply(key_noise, images, _choose(choice, nothing(images), drawn))

    return augment


def all_of(operations: Sequence[Operation], draw: Draw = per_image) -> Augmentation:
    """Return an augmentation that applies every operation, one after the other, each with draws of its own."""

    def augment(key, images):
        for number, operation in enumerate(operations):
            key_draws, key_noise = jax.random.split(jax.random.fold_in(key, number))
            images = apply(key_noise, images, operation(draw(key_draws, images)[:, 1:], images))
        return images

    return augment


def _choose(choice, nothing, drawn):
    """Take from change ``choice[b]`` for image b; a part that no operation changes stays None."""

    def part(idle, *each):
        if all(one is None for one in each):
            return None
        each = [idle if one is None else one for one in each]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves)[choice, jnp.arange(len(choice))], *each)

    return Change(*(part(*parts) for parts in zip(nothing, *drawn, strict=True)))


_FAMILIES = {"": (_rcig, per_image), "dc": (_dc, per_image), "dsa": (_dsa, per_batch)}
