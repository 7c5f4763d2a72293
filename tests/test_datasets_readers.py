"""Every reader on small files written here, from the published descriptions of the layouts."""

import gzip
import io
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from archgrad.datasets import DATASETS, folder, memory
from archgrad.datasets.images import FolderImages, ImageData, MemoryImages
from archgrad.datasets.loading import from_torch, load
from archgrad.errors import MissingExtra, UserError

GENERATOR = np.random.default_rng(5)


def everything(source):
    return source.fetch(torch.arange(len(source))).numpy()


def colour(n, h=32, w=32):
    return GENERATOR.integers(0, 256, (n, 3, h, w), dtype=np.uint8)


def encoded(pixels, kind="PNG"):
    """An image file of [3, H, W] or [1, H, W], losslessly."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    file = io.BytesIO()
    image.save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return file.getvalue()


# ---- the table, paths, guessing -------------------------------------------------------------------


def test_every_entry_loads_and_is_called_with_path_and_resize():
    import inspect

    images = ["digits", "cifar10", "cifar100", "fashion-mnist", "folder", "npz"]
    assert list(DATASETS) == [*images, "wikitext2", "ptb", "text"]
    for name in DATASETS:
        assert list(inspect.signature(DATASETS[name]).parameters) == ["path", "resize"]


def test_digits():
    data = load("digits")
    assert (len(data.train), data.shape, data.test) == (1797, (1, 8, 8), None)
    assert data.classes == tuple("0123456789")
    assert data.train.labels[:5].tolist() == [0, 1, 2, 3, 4]
    values = torch.unique(data.train.pixels).tolist()
    assert values == [0, 16, 32, 48, 64, 80, 96, 112, 128, 143, 159, 175, 191, 207, 223, 239, 255]
    assert data.train.pixels[0, 0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]  # 0 0 5 13 9 1 0 0
    assert load().name == "digits"


def test_digits_takes_no_path(tmp_path):
    with pytest.raises(UserError, match="reads no files"):
        load("digits", tmp_path)


def test_resize_of_memory():
    data = load("digits", resize=16)
    assert data.shape == (1, 16, 16)
    assert load("digits", resize=(4, 6)).shape == (1, 4, 6)
    flat = torch.full((2, 3, 9, 7), 93, dtype=torch.uint8)
    from archgrad.datasets.arrays import resized

    assert torch.equal(resized(flat, (5, 11)), torch.full((2, 3, 5, 11), 93, dtype=torch.uint8))
    with pytest.raises(UserError, match="resize is a number of pixels"):
        load("digits", resize=0)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist"])
def test_no_path_and_no_variable(monkeypatch, name):
    monkeypatch.delenv("ARCHGRAD_DATA", raising=False)
    with pytest.raises(UserError, match=f"{name}.*ARCHGRAD_DATA"):
        load(name)


@pytest.mark.parametrize("name", [*DATASETS, None])
def test_a_path_that_does_not_exist_or_is_empty(tmp_path, name):
    if name == "digits":
        return
    with pytest.raises(UserError, match=r"no file or folder .*missing"):
        load(name, tmp_path / "missing")
    with pytest.raises(UserError, match="is empty"):
        load(name, tmp_path)
    (tmp_path / "a.npz").touch()
    with pytest.raises(UserError, match="is empty"):
        load(name, tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["folder", "npz"])
def test_own_data_needs_a_path(name):
    with pytest.raises(UserError, match=f"'{name}' needs the path"):
        load(name)


def test_unknown_name():
    with pytest.raises(UserError, match=r"unknown data set 'cifar'.*did you mean 'cifar10'"):
        load("cifar")


def test_a_path_that_is_nothing_known(tmp_path):
    (tmp_path / "notes.md").write_text("hello")
    for path in (tmp_path, tmp_path / "notes.md"):
        with pytest.raises(UserError, match="is none of: a folder with one sub-folder"):
            load(None, path)


def test_a_loader_of_ones_own(monkeypatch, tmp_path):
    (tmp_path / "my_data.py").write_text(
        "from archgrad.datasets.loading import load\n"
        "def mine(path, resize):\n    return load('digits', resize=resize)\n"
        "def wrong(path, resize):\n    return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert load("my_data:mine", resize=4).shape == (1, 4, 4)
    with pytest.raises(UserError, match="returned int"):
        load("my_data:wrong")


def test_fewer_images_than_classes():
    source = MemoryImages(torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.arange(3))
    with pytest.raises(UserError, match="3 training images for 4 classes"):
        ImageData("made", source, None, tuple("abcd"))


# ---- npz ------------------------------------------------------------------------------------------


def arrays(n=6, classes=3):
    return GENERATOR.integers(0, 256, (n, 5, 4), dtype=np.uint8), np.arange(n)[:, None] % classes


def test_npz_as_medmnist_and_as_keras(tmp_path):
    parts = {p: arrays() for p in ("train", "val", "test")}
    np.savez(tmp_path / "m.npz", **{f"{p}_images": x for p, (x, _) in parts.items()},
             **{f"{p}_labels": y for p, (_, y) in parts.items()})  # fmt: skip
    np.savez(tmp_path / "k.npz", **{f"x_{p}": x for p, (x, _) in parts.items()},
             **{f"y_{p}": y[:, 0] for p, (_, y) in parts.items()})  # fmt: skip
    for file in ("m.npz", "k.npz"):
        data = load("npz", tmp_path / file)
        wanted = np.concatenate([parts["train"][0], parts["val"][0]])
        assert np.array_equal(everything(data.train)[:, 0], wanted)
        assert np.array_equal(everything(data.test)[:, 0], parts["test"][0])
        assert data.train.labels.tolist() == [0, 1, 2, 0, 1, 2] * 2
        assert (data.shape, data.classes) == ((1, 5, 4), ("0", "1", "2"))


def test_npz_whose_validation_part_is_all_there_is_for_a_test(tmp_path):
    x, y = arrays()
    np.savez(tmp_path / "m.npz", train_images=x, train_labels=y, val_images=x[:2], val_labels=y[:2])
    data = load(None, tmp_path)
    assert (len(data.train), len(data.test)) == (6, 2)
    assert "guessed" in data.note


@pytest.mark.parametrize("form", ["last", "first", "float", "int"])
def test_npz_colour_and_types(tmp_path, form):
    x = colour(6, 5, 4)
    saved = {
        "last": x.transpose(0, 2, 3, 1),
        "first": x,
        "float": (x / 255).astype(np.float32),
        "int": x.astype(np.int32),
    }[form]
    np.savez(tmp_path / "a.npz", x_train=saved, y_train=np.arange(6) % 2)
    assert np.array_equal(everything(load("npz", tmp_path / "a.npz").train), x)


NAN = np.full((6, 4, 4), 0.5)
NAN[2, 1, 1] = np.nan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": arrays()[0], "labels": arrays()[1]}, r"has arrays \['images', 'labels'\]; wanted are"),
        ({"x_train": arrays()[0]}, "has x_train but no y_train"),
        ({"x_train": NAN, "y_train": np.arange(6) % 2}, "NaN or infinite"),
        ({"x_train": NAN[:2] * 255, "y_train": [0, 1]}, "must be 0 to 1; got 127.5"),
        ({"x_train": np.full((2, 4, 4), 256), "y_train": [0, 1]}, "must be 0 to 255; got 256"),
        ({"x_train": np.full((2, 4, 4), "x"), "y_train": [0, 1]}, "must be numbers"),
        ({"x_train": np.zeros((2, 16)), "y_train": [0, 1]}, r"got shape \(2, 16\)"),
        ({"x_train": np.zeros((2, 4, 4, 5)), "y_train": [0, 1]}, r"got shape \(2, 4, 4, 5\)"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8), "y_train": np.zeros(0, int)}, "has no image"),
        ({"x_train": arrays()[0], "y_train": [0, 1]}, "2 labels for 6 images"),
        ({"x_train": arrays()[0], "y_train": np.arange(6) - 1}, "label -1 is out of range"),
        ({"x_train": arrays()[0], "y_train": np.arange(6) % 2 + 1}, "number the classes 0 to 1"),
        ({"x_train": arrays()[0], "y_train": np.eye(6)}, "one integer an image"),
        ({"x_train": arrays()[0], "y_train": np.zeros(6, int)}, r"1 class\(es\)"),
        ({"x_train": arrays()[0], "y_train": np.array([0, 1, 0, 1, 0, None])}, "cannot read"),
        (
            {"x_train": arrays()[0], "y_train": [0, 1] * 3, "x_test": arrays()[0], "y_test": np.arange(6)},
            "test labels go from 0 to 5, but there are 2 classes",
        ),
    ],
)  # fmt: skip
def test_wrong_npz(tmp_path, content, message):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(UserError, match=message):
        load("npz", tmp_path / "a.npz")


def test_damaged_npz(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=arrays()[0], y_train=arrays()[1])
    whole = (tmp_path / "a.npz").read_bytes()
    for content in (whole[:200], b"text", whole[:60] + b"\xff" * 40 + whole[100:]):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*a.npz"):
            load("npz", tmp_path / "a.npz")


def test_two_npz_in_a_folder(tmp_path):
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, x_train=arrays()[0], y_train=arrays()[1])
    with pytest.raises(UserError, match=r"2 .npz files: a.npz, b.npz"):
        load("npz", tmp_path)


# ---- idx ------------------------------------------------------------------------------------------


def write_idx(path, array, pack=True):
    data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(data) if pack else data)


def write_mnist(path, pack=True, images=None):
    images = GENERATOR.integers(0, 256, (20, 6, 5), dtype=np.uint8) if images is None else images
    suffix = ".gz" if pack else ""
    for part, n in (("train", 20), ("t10k", 10)):
        write_idx(path / f"{part}-images-idx3-ubyte{suffix}", images[:n], pack)
        write_idx(path / f"{part}-labels-idx1-ubyte{suffix}", np.arange(n, dtype=np.uint8) % 10, pack)
    return images


@pytest.mark.parametrize("pack", [True, False])
def test_idx(tmp_path, monkeypatch, pack):
    (tmp_path / "fashion-mnist").mkdir()
    images = write_mnist(tmp_path / "fashion-mnist", pack)
    monkeypatch.setenv("ARCHGRAD_DATA", str(tmp_path))
    data = load("fashion-mnist")
    assert np.array_equal(everything(data.train)[:, 0], images)
    assert np.array_equal(everything(data.test)[:, 0], images[:10])
    assert data.train.labels.tolist() == list(range(10)) * 2
    assert (data.shape, data.classes[0], data.classes[9]) == ((1, 6, 5), "T-shirt/top", "Ankle boot")
    guessed = load(None, tmp_path / "fashion-mnist")
    assert guessed.classes == tuple("0123456789")  # it might as well be MNIST
    assert "idx files" in guessed.note


def test_a_variable_that_leads_nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHGRAD_DATA", str(tmp_path))
    with pytest.raises(UserError, match="'fashion-mnist' is not in ARCHGRAD_DATA"):
        load("fashion-mnist")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda d: d[:-1], "truncated or damaged: its header .* 616 bytes, it has 615"),
        (lambda d: d + b"x", "616 bytes, it has 617"),
        (lambda d: d[:9], "truncated or damaged"),
        (lambda d: b"\0\0\x08\x01" + d[4:], "begins with 00000801, not 00000803"),
        (lambda d: gzip.compress(d), "begins with 1f8b"),
    ],
)
def test_damaged_idx(tmp_path, damage, message):
    write_mnist(tmp_path, pack=False)
    file = tmp_path / "train-images-idx3-ubyte"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=message):
        load("fashion-mnist", tmp_path)


def test_truncated_gzip_and_missing_files(tmp_path):
    write_mnist(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"cannot read .*train-images-idx3-ubyte.gz"):
        load("fashion-mnist", tmp_path)
    file.write_bytes(whole)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="lacks t10k-labels-idx1-ubyte"):
        load("fashion-mnist", tmp_path)
    (tmp_path / "t10k-images-idx3-ubyte.gz").unlink()
    assert load("fashion-mnist", tmp_path).test is None
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match="lacks train-labels-idx1-ubyte"):
        load("fashion-mnist", tmp_path)
    file.unlink()
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no train-images-idx3-ubyte"):
        load("fashion-mnist", tmp_path)


def test_idx_labels_out_of_range(tmp_path):
    write_mnist(tmp_path)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(20, dtype=np.uint8))
    with pytest.raises(UserError, match="0 to 19, but there are 10 classes"):
        load("fashion-mnist", tmp_path)


# ---- CIFAR, official binary layout ------------------------------------------------------------------


def write_rows(path, pixels, *labels):
    rows = [np.asarray(column, np.uint8)[:, None] for column in labels]
    path.write_bytes(np.concatenate([*rows, pixels.reshape(len(pixels), -1)], 1).tobytes())


def write_cifar10(path, names=True):
    pixels = colour(40)
    for b in range(2):
        write_rows(path / f"data_batch_{b + 1}.bin", pixels[b * 15 : b * 15 + 15], np.arange(15) % 10)
    write_rows(path / "test_batch.bin", pixels[30:], np.arange(10)[::-1])
    if names:
        (path / "batches.meta.txt").write_text("\n".join(f"name{i}" for i in range(10)) + "\n\n")
    return pixels


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-bin"])
def test_cifar10_binary(tmp_path, inner):
    (tmp_path / inner).mkdir(exist_ok=True)
    pixels = write_cifar10(tmp_path / inner)
    for data in (load("cifar10", tmp_path), load(None, tmp_path)):
        assert np.array_equal(everything(data.train), pixels[:30])
        assert np.array_equal(everything(data.test), pixels[30:])
        assert data.train.labels.tolist() == [i % 10 for i in range(15)] * 2
        assert data.test.labels.tolist() == list(range(10))[::-1]
        assert data.classes == tuple(f"name{i}" for i in range(10))
    assert load("cifar10", tmp_path, resize=8).shape == (3, 8, 8)


def test_cifar10_batches_are_in_numeric_order(tmp_path):
    pixels = colour(110)
    for b in range(11):
        write_rows(tmp_path / f"data_batch_{b + 1}.bin", pixels[b * 10 : b * 10 + 10], range(10))
    assert np.array_equal(everything(load("cifar10", tmp_path).train), pixels)


def test_cifar100_binary_uses_the_fine_label(tmp_path):
    pixels = colour(210)
    fine = np.arange(200) % 100
    write_rows(tmp_path / "train.bin", pixels[:200], fine // 5, fine)
    write_rows(tmp_path / "test.bin", pixels[200:], np.zeros(10), np.arange(90, 100))
    data = load("cifar100", tmp_path)
    assert np.array_equal(everything(data.train), pixels[:200])
    assert data.train.labels.tolist() == fine.tolist()
    assert data.test.labels.tolist() == list(range(90, 100))
    assert data.classes == tuple(map(str, range(100)))
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"fine{i}" for i in range(100)))
    assert load(None, tmp_path).classes[99] == "fine99"


def test_wrong_cifar_binary(tmp_path):
    write_cifar10(tmp_path)
    file = tmp_path / "data_batch_2.bin"
    whole = file.read_bytes()
    file.write_bytes(whole[:-7])
    with pytest.raises(UserError, match=r"data_batch_2.bin has 46088 bytes, not a multiple of 3073"):
        load("cifar10", tmp_path)
    file.write_bytes(b"\x0b" + whole[1:])
    with pytest.raises(UserError, match="0 to 11, but there are 10 classes"):
        load("cifar10", tmp_path)
    file.write_bytes(whole)
    (tmp_path / "batches.meta.txt").write_text("one\ntwo\n")
    with pytest.raises(UserError, match="has 2 names, cifar10 has 10"):
        load("cifar10", tmp_path)
    (tmp_path / "data_batch_1.bin").unlink()
    with pytest.raises(UserError, match=r"lacks data_batch_1.bin"):
        load("cifar10", tmp_path)
    file.unlink()
    with pytest.raises(UserError, match=r"neither train\*.parquet nor data_batch"):
        load("cifar10", tmp_path)
    (tmp_path / "data_batch_1").write_bytes(b"pickle")
    with pytest.raises(UserError, match="pickled and not read: take the binary version"):
        load("cifar10", tmp_path)


# ---- parquet --------------------------------------------------------------------------------------


def write_parquet(path, images, labels, image="image", label="label", names=None, struct=True, extra=None):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    cells = [{"bytes": b, "path": None} for b in images] if struct else images
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if struct else pa.binary()
    table = pa.table({image: pa.array(cells, kind), label: pa.array(labels), **(extra or {})})
    if names is not None:
        features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
        described = json.dumps({"info": {"features": features}})
        table = table.replace_schema_metadata({"huggingface": described})
    pq.write_table(table, path, row_group_size=4)


NAMES = [f"class{i}" for i in range(10)]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
@pytest.mark.parametrize(("image", "struct"), [("image", True), ("img", True), ("image", False)])
def test_parquet_cifar10(tmp_path, kind, image, struct):
    pixels = colour(50)
    files = [encoded(p, kind) for p in pixels]
    settings = {"image": image, "struct": struct, "names": NAMES}
    for shard in range(2):
        part = slice(shard * 20, shard * 20 + 20)
        write_parquet(
            tmp_path / f"train-0000{shard}-of-00002.parquet", files[part], [*range(10)] * 2, **settings
        )
    write_parquet(tmp_path / "test-00000-of-00001.parquet", files[40:], [*range(10)], **settings)
    data = load("cifar10", tmp_path)
    assert np.array_equal(everything(data.train), pixels[:40])
    assert np.array_equal(everything(data.test), pixels[40:])
    assert data.train.labels.tolist() == [*range(10)] * 4
    assert data.classes == tuple(NAMES)
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(UserError, match=r"lacks train-00001-of-00002.parquet"):
        load("cifar10", tmp_path)


def test_parquet_cifar100_uses_the_fine_label(tmp_path):
    pytest.importorskip("pyarrow")
    files = [encoded(p) for p in colour(100, 4, 4)]
    names = [f"fine{i}" for i in range(100)]
    write_parquet(tmp_path / "train.parquet", files, [*range(100)], "img", "fine_label", names,
                  extra={"coarse_label": [i // 5 for i in range(100)]})  # fmt: skip
    data = load("cifar100", tmp_path)
    assert data.train.labels.tolist() == [*range(100)]
    assert data.classes == tuple(names)
    with pytest.raises(UserError, match="has 100 classes, cifar10 has 10"):
        load("cifar10", tmp_path)


def test_parquet_of_any_name_grey_without_class_names(tmp_path):
    pixels = GENERATOR.integers(0, 256, (6, 1, 5, 4), dtype=np.uint8)
    write_parquet(tmp_path / "mine.parquet", [encoded(p) for p in pixels], [0, 1, 2, 2, 1, 0])
    for path in (tmp_path, tmp_path / "mine.parquet"):
        data = load("", path)
        assert np.array_equal(everything(data.train), pixels)
        assert (data.classes, data.test) == (("0", "1", "2"), None)
        assert "parquet" in data.note


def test_one_colour_image_makes_all_rgb(tmp_path):
    grey = GENERATOR.integers(0, 256, (1, 5, 4), dtype=np.uint8)
    write_parquet(tmp_path / "mine.parquet", [encoded(grey), encoded(colour(1, 5, 4)[0])], [0, 1])
    data = load(None, tmp_path)
    assert data.shape == (3, 5, 4)
    assert np.array_equal(everything(data.train)[0], np.repeat(grey, 3, 0))


def test_wrong_parquet(tmp_path):
    file = tmp_path / "train.parquet"
    good = [encoded(p) for p in colour(4, 5, 4)]

    def refused(message, *content, **settings):
        if content:
            write_parquet(file, *content, **settings)
        with pytest.raises(UserError, match=message):
            load(None, tmp_path)

    refused(
        r"cannot read the image in row 2 of .*train.parquet", [*good[:2], good[2][:50], good[3]], [0, 1] * 2
    )
    refused(r"cannot read the image in row 1", [good[0], b"no image", *good[2:]], [0, 1] * 2)
    refused(r"row 1: column 'image' holds NoneType", [good[0], None, *good[2:]], [0, 1] * 2)
    refused("several sizes: in row 0 .* is 4×5, in row 3 .* 7×6 .*resize=5",
            [*good[:3], encoded(colour(1, 6, 7)[0])], [0, 1] * 2)  # fmt: skip
    refused("must be an integer in every row; it is int64 with 1 empty", good, [0, 1, None, 1])
    refused("must be an integer in every row; it is double", good, [0.0, 1.0, 0.0, 1.0])
    refused("label -1 is out of range", good, [0, 1, 0, -1])
    refused("0 to 3, but there are 2 classes", good, [0, 1, 2, 3], names=["a", "b"])
    refused("one of image, img is wanted", good, [0, 1] * 2, image="picture")
    refused("one of label, labels, fine_label is wanted", good, [0, 1] * 2, label="y")
    refused("has no row", [], np.zeros(0, int))
    whole = file.read_bytes()
    file.write_bytes(whole[:-30])
    refused("cannot read .*train.parquet")
    file.rename(tmp_path / "test.parquet")
    for name in ("validation.parquet", "training-notes.parquet"):  # the latter is not of a part called train
        file.with_name(name).write_bytes(whole)
    refused("no training part")


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    (tmp_path / "train.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"train.parquet needs pyarrow: pip install 'archgrad\[parquet\]'"):
        load("cifar10", tmp_path)


# ---- a folder of images by class ----------------------------------------------------------------------


def write_folder(root, pixels, classes=("cat", "dog"), suffix="png"):
    """Image i goes to class i mod K."""
    for i, p in enumerate(pixels):
        entry = root / classes[i % len(classes)]
        entry.mkdir(parents=True, exist_ok=True)
        (entry / f"{i:03d}.{suffix}").write_bytes(encoded(p))


def in_folder_order(pixels, classes=2):
    return np.concatenate([pixels[k::classes] for k in range(classes)])


@pytest.mark.parametrize("limit", [2**30, 0])
def test_folder_in_memory_and_on_demand(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(folder, "MEMORY_LIMIT", limit)
    pixels = colour(10, 6, 5)
    write_folder(tmp_path, pixels, suffix="PNG")
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / "._000.png").write_bytes(b"left by a file system")
    (tmp_path / ".cache").mkdir()
    for data in (load("folder", tmp_path), load(None, tmp_path)):
        assert isinstance(data.train, FolderImages if limit == 0 else MemoryImages)
        assert np.array_equal(everything(data.train), in_folder_order(pixels))
        assert data.train.labels.tolist() == [0] * 5 + [1] * 5
        assert (data.classes, data.test, data.shape) == (("cat", "dog"), None, (3, 6, 5))


@pytest.mark.parametrize("limit", [2**30, 0])
def test_folder_with_parts(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(folder, "MEMORY_LIMIT", limit)
    pixels = colour(12, 6, 5)
    write_folder(tmp_path / "train", pixels[:6])
    write_folder(tmp_path / "val", pixels[6:10])
    data = load("folder", tmp_path)
    assert (len(data.train), len(data.test)) == (6, 4)
    write_folder(tmp_path / "test", pixels[10:])
    data = load("folder", tmp_path)
    wanted = np.concatenate([in_folder_order(pixels[:6]), in_folder_order(pixels[6:10])])
    assert np.array_equal(everything(data.train), wanted)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1, 1]
    assert np.array_equal(everything(data.test), pixels[10:])


@pytest.mark.parametrize("limit", [2**30, 0])
def test_folder_of_mixed_sizes(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(folder, "MEMORY_LIMIT", limit)
    pixels = [np.full((3, 6, 5), 40, np.uint8), np.full((3, 9, 9), 200, np.uint8)]
    write_folder(tmp_path, pixels)
    with pytest.raises(UserError, match=r"several sizes: .*000.png is 5×6, .*001.png is 9×9 .*resize=6"):
        load("folder", tmp_path)
    data = load("folder", tmp_path, resize=(4, 8))
    assert data.shape == (3, 4, 8)
    assert everything(data.train).reshape(2, -1).tolist() == [[40] * 96, [200] * 96]


def test_folder_of_other_modes(tmp_path):
    """Palette, transparency, one bit, and 16-bit grey scaled rather than clipped."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    deep = np.array([[0, 257, 65535], [32768, 1000, 128]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a" / "deep.png")
    Image.fromarray(np.array([[0, 255, 0], [255, 0, 255]], np.uint8)).convert("1").save(
        tmp_path / "b/bit.png"
    )
    data = load("folder", tmp_path)
    assert data.shape == (1, 2, 3)
    assert everything(data.train)[0, 0].tolist() == [[0, 1, 255], [128, 4, 0]]
    assert everything(data.train)[1, 0].tolist() == [[0, 255, 0], [255, 0, 255]]
    rgb = Image.fromarray(np.full((2, 3, 3), 120, np.uint8))
    rgb.convert("RGBA").save(tmp_path / "a" / "clear.png")
    rgb.quantize(4).save(tmp_path / "b" / "palette.gif")
    data = load("folder", tmp_path)
    assert data.shape == (3, 2, 3)
    assert everything(data.train)[0].reshape(-1).tolist() == [120] * 18  # a/clear.png
    assert everything(data.train)[3].reshape(-1).tolist() == [120] * 18  # b/palette.gif
    Image.fromarray(np.zeros((2, 3), np.float32)).save(tmp_path / "a" / "real.tiff")
    with pytest.raises(UserError, match=r"real.tiff has floating-point pixels"):
        load("folder", tmp_path)


@pytest.mark.parametrize("content", [b"", b"no image at all", "half"])
def test_unreadable_and_truncated_files_are_named(tmp_path, content):
    write_folder(tmp_path, colour(4, 20, 20))
    file = tmp_path / "dog" / "003.png"
    file.write_bytes(file.read_bytes()[:300] if content == "half" else content)
    with pytest.raises(UserError, match=r"cannot read the image .*003.png"):
        load("folder", tmp_path)


def test_wrong_folders(tmp_path):
    write_folder(tmp_path, colour(2, 4, 4), classes=("cat",))
    with pytest.raises(UserError, match=r"has 1 sub-folder\(s\) \['cat'\]; .*at least two"):
        load("folder", tmp_path)
    (tmp_path / "dog").mkdir()
    with pytest.raises(UserError, match="dog has no image"):
        load("folder", tmp_path)
    with pytest.raises(UserError, match="is a file"):
        load("folder", tmp_path / "cat" / "000.png")


def test_a_class_of_the_test_part_only(tmp_path):
    write_folder(tmp_path / "train", colour(4, 4, 4))
    write_folder(tmp_path / "test", colour(2, 4, 4), classes=("cat", "bird"))
    with pytest.raises(UserError, match="bird is a class that the training images do not have: cat, dog"):
        load("folder", tmp_path)


def test_a_test_part_without_classes(tmp_path):
    write_folder(tmp_path / "train", colour(4, 4, 4))
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match="test has no sub-folder"):
        load("folder", tmp_path)


def test_a_file_that_changes_size_while_it_is_read_on_demand(tmp_path, monkeypatch):
    monkeypatch.setattr(folder, "MEMORY_LIMIT", 0)
    write_folder(tmp_path, colour(4, 6, 5))
    data = load("folder", tmp_path)
    (tmp_path / "cat" / "000.png").write_bytes(encoded(colour(1, 7, 7)[0]))
    with pytest.raises(UserError, match=r"000.png has become 7×7 pixels; it was 5×6"):
        everything(data.train)


def test_large_images_decode_in_threads_to_the_same(tmp_path, monkeypatch):
    from archgrad.datasets import decoding

    pixels = colour(9, 8, 8)
    write_folder(tmp_path, pixels)
    monkeypatch.setattr(decoding, "_THREADS_PAY", 1)
    monkeypatch.setattr(decoding, "_CHUNK", 2)
    assert np.array_equal(everything(load("folder", tmp_path).train), in_folder_order(pixels))


# ---- mirror images, and what is too large for the memory


def test_images_are_mirrored_by_the_kind_of_the_data(tmp_path):
    """Photographs and clothing may be; digits may not, and arrays do not say what they show."""
    write_folder(tmp_path / "pictures", colour(4, 5, 4))
    write_parquet(tmp_path / "mine.parquet", [encoded(p) for p in colour(4, 5, 4)], [0, 1] * 2)
    np.savez(tmp_path / "mine.npz", x_train=(x := arrays())[0], y_train=x[1])
    assert load(None, tmp_path / "pictures").mirror
    assert load("folder", tmp_path / "pictures").mirror
    assert load(None, tmp_path / "mine.parquet").mirror
    assert not load(None, tmp_path / "mine.npz").mirror
    assert not load("digits").mirror


@pytest.fixture
def little_memory(monkeypatch):
    """Room for 1,000 bytes of pixels."""
    monkeypatch.setattr(memory, "memory_limit", lambda: 1000)


def test_the_limit_is_half_of_the_memory(monkeypatch):
    pages = {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 10}
    monkeypatch.setattr(memory.os, "sysconf", pages.__getitem__)
    assert memory.memory_limit() == 4096 * 5
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.memory_limit() == 8 * 2**30


def test_images_that_just_fit_are_not_refused(little_memory):
    memory.refuse_too_large(4, (1, 10, 25))
    with pytest.raises(UserError, match=r"4 images of 26×10 .* in 1 channel.* data.resize.* 15 the most"):
        memory.refuse_too_large(4, (1, 10, 26))
    memory.refuse_too_large(4, (1, 15, 15))
    with pytest.raises(UserError):
        memory.refuse_too_large(4, (1, 16, 16))


@pytest.mark.parametrize("limit", [2**60, 0])
def test_a_folder_too_large_for_the_memory(limit, little_memory, monkeypatch, tmp_path):
    """Also where it is decoded on demand: a batch has to fit in any case."""
    monkeypatch.setattr(folder, "MEMORY_LIMIT", limit)
    write_folder(tmp_path, colour(4, 5, 4))
    assert len(load("folder", tmp_path).train) == 4
    with pytest.raises(UserError, match="4 images of 100000×100000"):
        load("folder", tmp_path, resize=100_000)


def test_the_other_readers_ask_for_memory_first(little_memory, tmp_path):
    np.savez(tmp_path / "mine.npz", x_train=(x := arrays())[0], y_train=x[1])
    write_parquet(tmp_path / "mine.parquet", [encoded(p) for p in colour(4, 5, 4)], [0, 1] * 2)
    for name, path in (("digits", None), ("npz", tmp_path / "mine.npz"), (None, tmp_path / "mine.parquet")):
        with pytest.raises(UserError, match=r"100000×100000 .* GiB decoded"):
            load(name, path, resize=100_000)
    items = [(torch.zeros(3, 9, 9, dtype=torch.uint8), 0)] * 5
    with pytest.raises(UserError, match="5 images of 9×9"):
        from_torch(items, classes=("a", "b"))
