import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from archgrad.datasets.images import ImageData, MemoryImages
from archgrad.datasets.splits import split
from archgrad.errors import UserError
from archgrad.randomness import Streams


def source(counts, seed=0):
    labels = torch.tensor([k for k, n in enumerate(counts) for _ in range(n)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    return MemoryImages(torch.zeros(len(labels), 1, 2, 2, dtype=torch.uint8), labels)


def data(counts, test=None):
    names = tuple(f"class{k}" for k in range(len(counts)))
    return ImageData("made", source(counts), None if test is None else source(test), names)


def per_class(d, indices):
    return torch.bincount(d.train.labels[indices], minlength=len(d.classes)).tolist()


def test_balanced_halves_are_exact():
    d = data([100] * 4, test=[5] * 4)
    s = split(d, Streams(0))
    assert per_class(d, s.weights) == per_class(d, s.architecture) == [50] * 4
    assert s.test is None


def test_counts_of_unbalanced_classes_without_a_test_part():
    d = data([100, 37, 10, 3])
    s = split(d, Streams(0), validation=0.5, test=0.2)
    assert per_class(d, s.test) == [20, 7, 2, 1]
    assert per_class(d, s.architecture) == [40, 15, 4, 1]
    assert per_class(d, s.weights) == [40, 15, 4, 1]


def test_every_class_is_in_every_part():
    d = data([100, 3])
    s = split(d, Streams(0), validation=0.01, test=0.99)
    assert per_class(d, s.test) == [98, 1]
    assert per_class(d, s.architecture) == [1, 1]
    assert per_class(d, s.weights) == [1, 1]


def test_parts_are_sorted_disjoint_and_complete():
    d = data([30, 20])
    s = split(d, Streams(4), validation=0.3)
    parts = [s.weights, s.architecture, s.test]
    assert all(torch.equal(p, p.sort().values) for p in parts)
    assert sorted(torch.cat(parts).tolist()) == list(range(50))


def test_a_split_is_a_function_of_the_seed():
    d = data([30, 20])
    a, b, c = split(d, Streams(1)), split(d, Streams(1)), split(d, Streams(2))
    assert torch.equal(a.weights, b.weights)
    assert a.digests == b.digests
    assert not torch.equal(a.weights, c.weights)
    assert all(a.digests[part] != c.digests[part] for part in ("weights", "architecture", "test"))


def test_digests_are_of_the_indices_as_little_endian_int64():
    d = data([30, 20], test=[4, 3])
    s = split(d, Streams(1))
    raw = b"".join(int(i).to_bytes(8, "little") for i in s.weights)
    assert s.digests["weights"] == hashlib.sha256(raw).hexdigest()
    raw = b"".join(i.to_bytes(8, "little") for i in range(7))
    assert s.digests["test"] == hashlib.sha256(raw).hexdigest()
    assert set(s.digests) == {"weights", "architecture", "test"}


@pytest.mark.parametrize("shares", [{"validation": 0.0}, {"validation": 1.0}, {"test": -0.1}, {"test": 1.5}])
def test_shares_are_between_0_and_1(shares):
    with pytest.raises(UserError, match="above 0 and below 1"):
        split(data([9, 9]), Streams(0), **shares)


def test_a_class_too_small_for_all_parts_is_named():
    with pytest.raises(UserError, match=r"'class1' has 2 image\(s\), too few for one in each of 3 parts"):
        split(data([9, 2]), Streams(0))
    assert split(data([9, 2], test=[1, 1]), Streams(0)).test is None  # two parts: enough


def test_a_published_split_is_taken_as_it_is(tmp_path):
    d = data([6, 6], test=[2, 2])
    np.savez(tmp_path / "s.npz", train=[9, 1, 5], valid=[2, 0])
    s = split(d, Streams(0), file=tmp_path / "s.npz")
    assert s.weights.tolist() == [1, 5, 9]
    assert s.architecture.tolist() == [0, 2]
    assert s.weights.dtype == torch.int64
    raw = np.array([1, 5, 9], "<i8").tobytes()
    assert s.digests["weights"] == hashlib.sha256(raw).hexdigest()


def test_a_published_split_brings_its_test_part_where_the_data_has_none(tmp_path):
    np.savez(tmp_path / "s.npz", train=[9, 1, 5], valid=[2, 0], test=[11, 3])
    assert split(data([6, 6]), Streams(0), file=tmp_path / "s.npz").test.tolist() == [3, 11]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"train": [0, 1], "valid": [1, 2]}, "named twice"),
        ({"train": [0, 12], "valid": [1]}, "0 to 12.*0 to 11"),
        ({"train": [-1, 2], "valid": [1]}, "-1 to 2"),
        ({"train": [0, 1]}, r"\['train'\], not 'valid'"),
        ({"train": [0.0], "valid": [1]}, "'train' must be a row of integers.*float64"),
        ({"train": [[0]], "valid": [1]}, "'train' must be a row of integers"),
        ({"train": np.array([0, "x"], dtype=object), "valid": [1]}, "cannot read the split"),
    ],
)
def test_wrong_split_files_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(UserError, match=message):
        split(data([6, 6], test=[1, 1]), Streams(0), file=tmp_path / "s.npz")


def test_no_split_file(tmp_path):
    with pytest.raises(UserError, match="no split file"):
        split(data([6, 6]), Streams(0), file=tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("train: 1 2 3")
    with pytest.raises(UserError, match="cannot read the split"):
        split(data([6, 6]), Streams(0), file=Path(tmp_path / "text.npz"))
    np.savez(tmp_path / "s.npz", train=[1], valid=[2])
    with pytest.raises(UserError, match="'test'"):
        split(data([6, 6]), Streams(0), file=tmp_path / "s.npz")
