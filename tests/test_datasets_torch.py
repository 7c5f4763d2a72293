import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import IterableDataset, TensorDataset

from archgrad.datasets.loading import from_torch
from archgrad.errors import UserError

GENERATOR = np.random.default_rng(0)
COLOUR = GENERATOR.integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)  # [N, H, W, C]
GREY = COLOUR[..., 0]
LABELS = [0, 1, 2, 0, 1, 2]


def items(images, labels=LABELS):
    return list(zip(images, labels, strict=True))


FORMS = {
    "tensors": (list(torch.from_numpy(COLOUR).permute(0, 3, 1, 2)), COLOUR),
    "float tensors": (list(torch.from_numpy(COLOUR).permute(0, 3, 1, 2) / 255), COLOUR),
    "half tensors": (list((torch.from_numpy(COLOUR).permute(0, 3, 1, 2) / 255).half()), COLOUR),
    "arrays": (list(COLOUR), COLOUR),
    "float arrays": (list(COLOUR / 255.0), COLOUR),
    "int arrays": (list(COLOUR.astype(np.int64)), COLOUR),
    "Pillow": ([Image.fromarray(a) for a in COLOUR], COLOUR),
    "grey Pillow": ([Image.fromarray(a) for a in GREY], GREY[..., None]),
    "grey arrays": (list(GREY), GREY[..., None]),
    "grey tensors": (list(torch.from_numpy(GREY)), GREY[..., None]),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_image(form):
    images, wanted = FORMS[form]
    data = from_torch(items(images), items(images[:2], [2, 0]), classes=["a", "b", "c"])
    wanted = torch.from_numpy(wanted.transpose(0, 3, 1, 2).copy())
    assert torch.equal(data.train.fetch(torch.arange(6)), wanted)
    assert torch.equal(data.test.fetch(torch.tensor([1])), wanted[1:2])
    assert data.train.labels.tolist() == LABELS
    assert data.test.labels.tolist() == [2, 0]
    assert data.classes == ("a", "b", "c")


def test_class_names_of_the_data_set_or_numbers():
    data = TensorDataset(torch.from_numpy(COLOUR).permute(0, 3, 1, 2), torch.tensor(LABELS))
    assert from_torch(data).classes == ("0", "1", "2")
    data.classes = ["x", "y", "z"]
    assert from_torch(data).classes == ("x", "y", "z")
    assert from_torch(data).name == "TensorDataset"


class Endless(IterableDataset):
    def __iter__(self):
        return iter([])


NAN = COLOUR / 255.0
NAN[3, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Endless(), "no length"),
        ([], "no item"),
        (list(COLOUR), r"item 0 of the train data set must be \(image, label\)"),
        (items(list(NAN)), "item 3 of the train data set has NaN"),
        (items(list(COLOUR / 127.0)), r"item 0 .* float64 must be 0 to 1; got 0\.\d* to [12]\."),
        (items(list(COLOUR.astype(int) - 1)), "must be 0 to 255; got -1 to"),
        (items([*COLOUR[:5], COLOUR[5][:4]]), r"item 5 .* \(3, 4, 7\), those before it \(3, 5, 7\)"),
        (items(["a.png"] * 6), "must be a tensor.*got str"),
        (items(list(COLOUR), [0, 1, 2, 0, 1, -1]), "label -1 is out of range"),
        (items(list(COLOUR), [0.5] * 6), "one integer an image"),
        (items(list(COLOUR), [1, 2, 3, 1, 2, 3]), "none is 0"),
        (items(list(COLOUR), [0] * 6), r"1 class\(es\)"),
    ],
)
def test_wrong_data_is_refused(dataset, message):
    with pytest.raises(UserError, match=message):
        from_torch(dataset)


def test_labels_beyond_the_names_are_refused():
    with pytest.raises(UserError, match="go from 0 to 2, but there are 2 classes"):
        from_torch(items(list(COLOUR)), classes=["a", "b"])
    with pytest.raises(UserError, match="test labels go from 0 to 3"):
        from_torch(items(list(COLOUR)), items(list(COLOUR), [3, 0, 1, 2, 0, 1]))


def test_fewer_images_than_classes_or_parts_of_two_shapes_are_refused():
    with pytest.raises(UserError, match="6 training images for 7 classes"):
        from_torch(items(list(COLOUR)), classes="abcdefg")
    with pytest.raises(UserError, match=r"\(3, 5, 7\), test images \(1, 5, 7\)"):
        from_torch(items(list(COLOUR)), items(list(GREY)))
