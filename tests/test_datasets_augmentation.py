"""Augmentation against a loop over images, rows and columns written from the published definitions."""

import pytest
import torch

from archgrad.datasets.augmentation import Augmentation
from archgrad.errors import UserError


def by_loops(pixels, augmentation, draw, mean, std):
    """Crop from the black-padded image, mirror, scale, normalise, then cut out: one pixel at a time."""
    b, c, h, w = pixels.shape
    x = torch.zeros(b, c, h, w)
    p, s = augmentation.crop, augmentation.cutout
    for n in range(b):
        top, left = draw.offset[n].tolist()
        cy, cx = draw.centre[n].tolist()
        mirrored = augmentation.flip and bool(draw.flip[n])
        for k in range(c):
            for i in range(h):
                for j in range(w):
                    row, column = i + top - p, (w - 1 - j if mirrored else j) + left - p
                    inside = 0 <= row < h and 0 <= column < w
                    value = pixels[n, k, row, column].float() if inside else torch.tensor(0.0)
                    x[n, k, i, j] = (value / 255 - mean[k]) / std[k]
                    if cy - s // 2 <= i < cy - s // 2 + s and cx - s // 2 <= j < cx - s // 2 + s:
                        x[n, k, i, j] = 0.0
    return x


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(),
        Augmentation(crop=2),
        Augmentation(flip=True),
        Augmentation(cutout=4),
        Augmentation(cutout=3),
        Augmentation(crop=3, flip=True, cutout=5),
        Augmentation(crop=1, flip=True, cutout=40),
    ],
)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 9)])
def test_equals_the_loops(augmentation, shape):
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randint(0, 256, (24, *shape), generator=generator, dtype=torch.uint8)
    draw = augmentation.draw(24, *shape[1:], generator)
    mean, std = torch.tensor([0.4, 0.5, 0.6][: shape[0]]), torch.tensor([0.2, 0.3, 0.25][: shape[0]])
    before = pixels.clone()
    x = augmentation.crop_and_flip(pixels, draw).float() / 255
    x = augmentation.cut_out_((x - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1), draw)
    torch.testing.assert_close(x, by_loops(pixels, augmentation, draw, mean, std), rtol=0, atol=1e-6)
    assert torch.equal(pixels, before)


def test_draws_are_uniform():
    """20,000 draws; chi-square of each number against uniform, p > 0.001."""
    stats = pytest.importorskip("scipy.stats")
    draw = Augmentation(crop=4, flip=True, cutout=16).draw(20_000, 32, 20, torch.Generator().manual_seed(1))
    columns = {9: draw.offset.unbind(1), 2: (draw.flip.long(),), 32: draw.centre[:, :1].unbind(1)}
    columns[20] = draw.centre[:, 1:].unbind(1)
    tested = 0
    for values, drawn in columns.items():
        for column in drawn:
            counts = torch.bincount(column, minlength=values)
            assert len(counts) == values
            assert stats.chisquare(counts.numpy()).pvalue > 0.001
            tested += 1
    assert tested == 5


def test_one_setting_does_not_move_the_draws_of_another():
    draws = [
        Augmentation(crop, flip, cutout).draw(50, 32, 32, torch.Generator().manual_seed(2))
        for crop, flip, cutout in [(0, False, 16), (4, True, 16), (4, True, 0)]
    ]
    assert torch.equal(draws[0].centre, draws[1].centre)
    assert torch.equal(draws[1].flip, draws[2].flip)
    assert torch.equal(draws[1].offset, draws[2].offset)
    assert draws[1].offset.max() == 8


@pytest.mark.parametrize("setting", [{"crop": -1}, {"cutout": -2}])
def test_negative_sizes_are_refused(setting):
    with pytest.raises(UserError, match=r"number of pixels.*got -"):
        Augmentation(**setting)
