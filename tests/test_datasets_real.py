"""The real data sets, where they are: counts and statistics against the published numbers."""

import numpy as np
import pytest
import torch

from archgrad.datasets.batches import normalisation_of
from archgrad.datasets.loading import load
from archgrad.datasets.splits import split
from archgrad.randomness import Streams


@pytest.fixture(scope="module")
def cifar10(shared_data):
    pytest.importorskip("pyarrow")
    return load("cifar10", shared_data / "cifar10")


def test_cifar10(cifar10):
    assert (len(cifar10.train), len(cifar10.test), cifar10.shape) == (50_000, 10_000, (3, 32, 32))
    assert cifar10.classes[:3] == ("airplane", "automobile", "bird")
    assert torch.bincount(cifar10.train.labels).tolist() == [5000] * 10
    assert torch.bincount(cifar10.test.labels).tolist() == [1000] * 10


def test_cifar10_mean_and_deviation_are_the_published(cifar10):
    mean, std = normalisation_of(cifar10.train, torch.arange(50_000))
    assert [round(m, 4) for m in mean] == [0.4914, 0.4822, 0.4465]
    assert [round(s, 4) for s in std] == [0.2470, 0.2435, 0.2616]


def test_cifar10_in_the_official_order(cifar10):
    """The md5 of data_batch_1.bin, written back from the first 10,000 rows."""
    import hashlib

    pixels = cifar10.train.pixels[:10_000].flatten(1).numpy()
    rows = np.concatenate([cifar10.train.labels[:10_000, None].numpy().astype(np.uint8), pixels], 1)
    digest = hashlib.md5(rows.tobytes(), usedforsecurity=False).hexdigest()
    assert digest == "5dd7e06a14cb22eb9f671a540d1b7c25"


def test_cifar10_split_by_seed_and_as_published(cifar10, shared_data):
    halves = split(cifar10, Streams(0))
    for part in (halves.weights, halves.architecture):
        assert torch.bincount(cifar10.train.labels[part]).tolist() == [2500] * 10
    file = shared_data / "nasbench201" / "cifar10_search_split.npz"
    published = split(cifar10, Streams(0), file=file)
    with np.load(file, allow_pickle=False) as arrays:
        assert published.weights.tolist() == sorted(arrays["train"].tolist())
        assert published.architecture.tolist() == sorted(arrays["valid"].tolist())
    both = torch.cat([published.weights, published.architecture]).sort().values
    assert torch.equal(both, torch.arange(50_000))
    assert published.digests["weights"] != halves.digests["weights"]


def test_fashion_mnist(shared_data):
    data = load("fashion-mnist", shared_data / "fashion-mnist")
    assert (len(data.train), len(data.test), data.shape) == (60_000, 10_000, (1, 28, 28))
    assert torch.bincount(data.train.labels).tolist() == [6000] * 10
    mean, std = normalisation_of(data.train, torch.arange(60_000))
    assert (round(mean[0], 4), round(std[0], 4)) == (0.2860, 0.3530)


def test_pneumonia(shared_data):
    data = load("npz", shared_data / "pneumoniamnist")
    assert (len(data.train), len(data.test), data.shape) == (3882 + 524, 624, (1, 28, 28))
    assert data.classes == ("0", "1")
    halves = split(data, Streams(0))
    counts = torch.bincount(data.train.labels)
    assert torch.bincount(data.train.labels[halves.architecture]).tolist() == [
        round(n / 2) for n in counts.tolist()
    ]
