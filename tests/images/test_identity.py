import hashlib

import numpy as np
import pytest
import torch

from robust_hub.images.identity import image_hash

LEVELS = torch.arange(256, dtype=torch.uint8).repeat(3).reshape(3, 16, 16)


def test_an_8_bit_image_has_one_hash_however_it_is_held():
    plain = hashlib.sha256(b"uint8 (3, 16, 16)\n" + LEVELS.numpy().tobytes()).hexdigest()
    double = torch.from_numpy(LEVELS.numpy().astype(np.float64) / 255)
    multiplied = LEVELS.float().mul(1 / 255)  # as some loaders do; not all of them on the grid in float32
    for x in (LEVELS, LEVELS / 255, LEVELS.float().div_(255), double, (LEVELS / 255).requires_grad_()):
        assert image_hash(x) == plain
    assert not torch.equal(multiplied, LEVELS / 255) and image_hash(multiplied) != plain
    turned = (LEVELS / 255).transpose(1, 2).contiguous().transpose(1, 2)
    assert image_hash(turned) == plain


def test_other_images_have_other_hashes():
    x = LEVELS / 255
    moved = x.clone()
    moved[0, 0, 0] += 1e-7
    assert image_hash(moved) == hashlib.sha256(b"float32 (3, 16, 16)\n" + moved.numpy().tobytes()).hexdigest()
    last = x.clone()
    last[2, 15, 15] = 254 / 255
    assert len({image_hash(one) for one in (x, moved, last, x.reshape(3, 8, 32), x.flip(0) * 0.5)}) == 5


def test_what_is_no_image_is_refused():
    with pytest.raises(TypeError, match="expected a torch tensor with pixels in"):
        image_hash(np.zeros((3, 2, 2)))
    with pytest.raises(TypeError, match="expected floating-point pixels in"):
        image_hash(torch.zeros(3, 2, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="got NaN"):
        image_hash(torch.full((3, 2, 2), float("nan")))
    with pytest.raises(ValueError, match="expected pixels in"):
        image_hash(torch.full((3, 2, 2), 2.0))
