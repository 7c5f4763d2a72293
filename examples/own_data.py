"""Any pair of PyTorch data sets.  python examples/own_data.py RUN_FOLDER"""

import sys

import torch
from sklearn.datasets import load_digits
from torch.utils.data import Dataset, TensorDataset

from archgrad import UserError, derive_run, from_torch, search_run, train_run


def torch_pair() -> tuple[Dataset, Dataset]:
    """Your own two data sets; an item is (image, label), the image in [0, 1] without augmentation."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(labels)
    return TensorDataset(images[:1400], labels[:1400]), TensorDataset(images[1400:], labels[1400:])


def digits_pair(path=None, resize=None):
    """A data set by name, `--data own_data:digits_pair`: then every verb can read it again by itself."""
    if path is not None or resize is not None:
        raise UserError("own_data:digits_pair reads no files and does not resize: leave out path and resize")
    return from_torch(*torch_pair(), classes=[f"digit {d}" for d in range(10)])


if __name__ == "__main__":
    run = sys.argv[1]
    data = digits_pair()  # an object has no name: the verbs that need the images take it as `data`
    search_run({"method": "gdas", "search": {"epochs": 2}}, run, data=data)
    print(derive_run(run))
    result = train_run(run, {"train": {"epochs": 3}}, data=data).derived
    print(f"test accuracy {result['test_accuracy']:.1%} on {result['test_images']} images")
