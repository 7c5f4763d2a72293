"""Any pair of PyTorch data sets, under a name of your own.  python examples/own_data.py RUN_FOLDER"""

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
    """The signature of a data set; a name in a configuration, unlike an object, can be read back later."""
    if path is not None or resize is not None:
        raise UserError("own_data:digits_pair reads no files and does not resize: leave out path and resize")
    train, test = torch_pair()
    return from_torch(train, test, classes=[f"digit {d}" for d in range(10)])


if __name__ == "__main__":
    run = sys.argv[1]
    search_run({"data": {"name": "own_data:digits_pair"}, "method": "gdas", "search": {"epochs": 2}}, run)
    print(derive_run(run))
    result = train_run(run, {"train": {"epochs": 3}}).derived
    print(f"test accuracy {result['test_accuracy']:.1%} on {result['test_images']} images")
