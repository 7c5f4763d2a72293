import numpy as np
import pytest
import torch
from PIL import Image

from archgrad.datasets.batches import Augmentation, Batches, Normalisation, normalisation_of
from archgrad.datasets.images import FolderImages, MemoryImages
from archgrad.errors import UserError
from archgrad.randomness import Streams

FULL = Augmentation(crop=2, flip=True, cutout=3)


def images(n=50, c=3, side=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, c, side, side), generator=generator, dtype=torch.uint8)
    return MemoryImages(pixels, torch.arange(n) % 5)


def batches(source, indices=None, batch_size=8, seed=7, name="weights", augmentation=FULL, **settings):
    indices = torch.arange(len(source)) if indices is None else indices
    if "normalisation" not in settings:
        settings["normalisation"] = normalisation_of(source, indices)
    return Batches(
        source, indices, batch_size, augmentation=augmentation, streams=Streams(seed), name=name, **settings
    )


@pytest.fixture
def stored(tmp_path):
    """The same images in memory and as lossless files."""
    memory = images()
    files = []
    for i, pixels in enumerate(memory.pixels):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(files[-1])
    return memory, FolderImages(files, memory.labels, memory.shape, workers=2)


def test_a_batch_is_a_function_of_seed_name_epoch_and_step():
    source = images()
    first, again = batches(source), batches(source)
    wanted = {(e, s): first.batch(e, s) for e in range(3) for s in range(first.steps)}
    for (epoch, step), (x, y) in reversed(wanted.items()):  # another order, another object
        x2, y2 = again.batch(epoch, step)
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    assert (x.dtype, y.dtype, x.shape, y.shape) == (torch.float32, torch.int64, (8, 3, 8, 8), (8,))
    for other in (batches(source, seed=8), batches(source, name="architecture")):
        assert not torch.equal(other.batch(0, 0)[0], wanted[0, 0][0])
    assert not torch.equal(wanted[0, 0][0], wanted[1, 0][0])


def test_augmentation_differs_between_epochs_and_steps():
    one = MemoryImages(images(1).pixels.expand(16, -1, -1, -1).contiguous(), torch.arange(16) % 2)
    b = batches(one, batch_size=8, shuffle=False)
    assert not torch.equal(b.batch(0, 0)[0], b.batch(0, 1)[0])
    assert not torch.equal(b.batch(0, 0)[0], b.batch(1, 0)[0])


def test_the_order_of_an_epoch_is_that_of_its_stream():
    source = MemoryImages(images(30).pixels, torch.arange(30))
    b = batches(source, name="architecture", batch_size=30, augmentation=Augmentation())
    orders = [b.batch(epoch, 0)[1] for epoch in (0, 1, 0)]
    for epoch, order in zip((0, 1, 0), orders, strict=True):
        generator = Streams(7).generator("architecture", epoch)
        assert torch.equal(order, torch.randperm(30, generator=generator))
    assert not torch.equal(orders[0], orders[1])


def test_global_random_state_is_untouched():
    before = torch.random.get_rng_state()
    batches(images()).batch(1, 1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_epoch_gives_every_image_once():
    source = images(50)
    plain = Normalisation((0.0,) * 3, (1 / 255,) * 3)
    b = batches(source, batch_size=8, drop_last=False, augmentation=Augmentation(), normalisation=plain)
    assert b.steps == 7
    got = [b.batch(2, step) for step in range(7)]
    assert [len(y) for _, y in got] == [8] * 6 + [2]
    x, y = torch.cat([g[0] for g in got]), torch.cat([g[1] for g in got])
    key = source.pixels.flatten(1).long() @ torch.arange(1, 193)  # tells the images apart
    assert len(set(key.tolist())) == 50
    found = x.round().flatten(1).long() @ torch.arange(1, 193)
    assert sorted(found.tolist()) == sorted(key.tolist())
    assert found.tolist() != key.tolist()
    label_of = dict(zip(key.tolist(), source.labels.tolist(), strict=True))
    assert [label_of[k] for k in found.tolist()] == y.tolist()


def test_only_the_given_indices_and_in_order_without_shuffling():
    source = images(50)
    indices = torch.tensor([41, 3, 17, 8, 29])
    b = batches(source, indices, batch_size=2, shuffle=False, augmentation=Augmentation())
    assert b.steps == 2
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in normalisation_of(source, indices))
    for epoch in (0, 5):
        x, y = b.batch(epoch, 1)
        torch.testing.assert_close(x, (source.pixels[[17, 8]] / 255 - mean) / std)
        assert y.tolist() == source.labels[[17, 8]].tolist()


@pytest.mark.parametrize("kind", [0, 1])
def test_iterating_equals_asking(stored, kind):
    """With and without the thread that prepares the next batch, from any step on."""
    b = batches(stored[kind])
    for start in (0, 4, b.steps):
        got = list(b.epoch(3, start))
        assert len(got) == b.steps - start
        for step, (x, y) in enumerate(got, start):
            assert torch.equal(x, b.batch(3, step)[0])
            assert torch.equal(y, b.batch(3, step)[1])


def test_files_give_the_batches_that_memory_gives(stored):
    memory, files = stored
    for step in range(3):
        for a, b in zip(batches(memory).batch(1, step), batches(files).batch(1, step), strict=True):
            assert torch.equal(a, b)


def test_leaving_an_epoch_early_ends_the_thread(stored):
    import threading

    before = {t.name for t in threading.enumerate() if t.name.startswith("prefetch")}
    iterator = batches(stored[1]).epoch(0)
    next(iterator)
    assert {t.name for t in threading.enumerate() if t.name.startswith("prefetch")} > before
    iterator.close()
    assert {t.name for t in threading.enumerate() if t.name.startswith("prefetch")} == before


def test_a_file_broken_after_reading_is_named(stored):
    files = stored[1]
    files.files[0].write_bytes(files.files[0].read_bytes()[:60])
    with pytest.raises(UserError, match=r"cannot read the image .*0\.png"):
        list(batches(files, normalisation=Normalisation((0.5,) * 3, (0.2,) * 3)).epoch(0))


def test_channels_last_changes_memory_not_values():
    a, b = batches(images()), batches(images(), channels_last=True)
    x, z = a.batch(0, 0)[0], b.batch(0, 0)[0]
    assert torch.equal(x, z)
    assert x.is_contiguous()
    assert z.is_contiguous(memory_format=torch.channels_last)
    assert not z.is_contiguous()


def test_parts_share_one_copy_on_another_device():
    """The meta device stands in for an accelerator; it has no data but is a device of its own."""
    source = images()
    copy = source.to("meta")
    assert copy is source.to(torch.device("meta"))
    assert copy.pixels.device.type == "meta"
    assert source.to("cpu") is source


def test_normalisation_is_exact_and_of_the_given_part_only():
    source = images(40)
    source.pixels[20:] = 255
    got = normalisation_of(source, torch.arange(20))
    x = source.pixels[:20].double().numpy() / 255
    np.testing.assert_allclose(got.mean, x.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(got.std, x.std((0, 2, 3)), rtol=1e-12)
    x, _ = batches(source, torch.arange(20), batch_size=20, augmentation=Augmentation()).batch(0, 0)
    torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("channels_last", [False, True])
def test_a_batch_is_made_on_the_device_from_numbers_drawn_on_the_host(channels_last):
    """The meta device refuses host tensors as a GPU does, and needs none."""
    source = images()
    b = batches(source, device="meta", channels_last=channels_last)
    x, y = b.batch(0, 0)
    assert (x.device.type, y.device.type) == ("meta", "meta")
    assert (x.shape, x.dtype, y.shape) == ((8, *source.shape), torch.float32, (8,))
    assert x.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert source.pixels.device.type == "cpu"


def test_a_constant_channel_becomes_zero_not_nan():
    source = images(10)
    source.pixels[:, 1] = 77
    x, _ = batches(source, augmentation=Augmentation()).batch(0, 0)
    assert x.isfinite().all()
    torch.testing.assert_close(x[:, 1], torch.zeros_like(x[:, 1]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 51}, r"batches.batch_size: 51 is larger than .* \(batches/of\), which has 50"),
        ({"batch_size": 0}, "batches.batch_size: a batch has at least one image; got 0"),
        ({"indices": torch.tensor([], dtype=torch.int64)}, "no image"),
        ({"indices": torch.arange(60)}, "0 to 59, but the source has 50"),
        ({"normalisation": Normalisation((0.5,), (0.5,))}, r"3 channel\(s\), the normalisation 1"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    settings = {"normalisation": Normalisation((0.5,) * 3, (0.5,) * 3), "name": "batches/of", **settings}
    with pytest.raises(UserError, match=message):
        batches(images(), **settings)


def test_a_short_part_is_one_batch_of_an_evaluation():
    b = batches(images(5), batch_size=64, drop_last=False)
    assert b.steps == 1
    assert len(b.batch(0, 0)[1]) == 5


def test_no_step_beyond_the_epoch():
    with pytest.raises(IndexError, match="step 6 of an epoch of 6"):
        batches(images()).batch(0, 6)
