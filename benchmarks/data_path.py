"""Images a second of the data path on the CPU: CIFAR-10-shaped batches, augmented and normalised.

    python benchmarks/data_path.py [--repeats N] [--threads N]

Batches of 64 with crop 4, flip and cutout 16, from 10,000 random images in memory (the pixels' values
do not matter to the time). `none` is the same without augmentation, `loader` what it replaces: a
torch.utils.data.DataLoader in this process that augments image by image, with the same operations.
The three are timed in turn, so that a change of the machine's load meets them all.

`training` asks whether preparing the next batch in a thread would pay for images in memory: seconds
of 20 steps of a small convolutional network, without and with such a thread.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from record import record, summary
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from archgrad.datasets.augmentation import Augmentation
from archgrad.datasets.batches import Batches
from archgrad.datasets.images import MemoryImages
from archgrad.datasets.normalisation import normalisation_of
from archgrad.randomness import Streams

BATCH, STEPS = 64, 100


class OneByOne(Dataset[tuple[Tensor, Tensor]]):
    """The usual form: one image at a time, augmented by itself."""

    def __init__(self, source: MemoryImages, mean: Tensor, std: Tensor) -> None:
        self.source, self.mean, self.std = source, mean.view(3, 1, 1), std.view(3, 1, 1)
        self.generator = torch.Generator().manual_seed(0)

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        top, left, cy, cx = (int(torch.randint(0, n, (), generator=self.generator)) for n in (9, 9, 32, 32))
        image = nn.functional.pad(self.source.pixels[index], [4] * 4)[:, top : top + 32, left : left + 32]
        if int(torch.randint(0, 2, (), generator=self.generator)):
            image = image.flip(2)
        x = (image.float() / 255 - self.mean) / self.std
        x[:, max(cy - 8, 0) : cy + 8, max(cx - 8, 0) : cx + 8] = 0
        return x, self.source.labels[index]


def training_seconds(batches: Batches, ahead: bool) -> float:
    """Seconds of 20 steps, the next batch prepared in a thread or not."""
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
    optimizer = torch.optim.SGD(network.parameters(), 0.01)
    start = time.perf_counter()
    with ThreadPoolExecutor(1) as pool:
        upcoming = pool.submit(batches.batch, 0, 0)
        for step in range(20):
            x, y = upcoming.result() if ahead else batches.batch(0, step)
            if ahead:
                upcoming = pool.submit(batches.batch, 0, step + 1)
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x), y).backward()
            optimizer.step()
    return time.perf_counter() - start


def main(repeats: int, threads: int) -> None:
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (10_000, 3, 32, 32), generator=generator, dtype=torch.uint8)
    source = MemoryImages(pixels, torch.arange(10_000) % 10)
    everything = torch.arange(10_000)
    normalisation = normalisation_of(source, everything)

    def batches(augmentation: Augmentation) -> Batches:
        return Batches(
            source,
            everything,
            BATCH,
            normalisation=normalisation,
            augmentation=augmentation,
            streams=Streams(0),
            name="benchmark",
        )

    augmented = batches(Augmentation(crop=4, flip=True, cutout=16))
    plain = batches(Augmentation())
    mean, std = torch.tensor(normalisation.mean), torch.tensor(normalisation.std)
    loader = DataLoader(
        OneByOne(source, mean, std), BATCH, shuffle=True, generator=torch.Generator().manual_seed(0)
    )

    def images_per_second(iterator: Any, steps: int) -> float:
        next(iterator)  # the epoch's permutation, and the first use of everything
        start = time.perf_counter()
        for _ in range(steps):
            next(iterator)
        return steps * BATCH / (time.perf_counter() - start)

    rates: dict[str, list[float]] = {"augmented": [], "none": [], "loader": []}
    seconds: dict[str, list[float]] = {"in_turn": [], "thread_ahead": []}
    for repeat in range(repeats + 1):
        rates["augmented"].append(images_per_second(augmented.epoch(repeat), STEPS))
        rates["none"].append(images_per_second(plain.epoch(repeat), STEPS))
        rates["loader"].append(images_per_second(iter(loader), STEPS // 4))
        seconds["in_turn"].append(training_seconds(augmented, ahead=False))
        seconds["thread_ahead"].append(training_seconds(augmented, ahead=True))
    results = {name: summary(values[1:]) for name, values in rates.items()}  # the first warms up
    ratios = [a / b for a, b in zip(rates["augmented"][1:], rates["loader"][1:], strict=True)]
    ahead = [a / b for a, b in zip(seconds["in_turn"][1:], seconds["thread_ahead"][1:], strict=True)]
    for name, result in results.items():
        print(f"{name:10} {result['median']:10.0f} images/s  ({result['min']:.0f} to {result['max']:.0f})")
    print(f"times the loader's: {summary(ratios)['median']:.1f}")
    print(f"20 training steps, in turn over thread ahead: {summary(ahead)['median']:.3f}")
    record(
        "data_path",
        {
            "what": "images a second, CIFAR-10-shaped, batch 64, crop 4 + flip + cutout 16, CPU",
            "repeats": repeats,
            "images_per_second": results,
            "augmented_over_loader": summary(ratios),
            "training": {
                "what": "seconds of 20 steps of a small network; ratio above 1: the thread is faster",
                **{name: summary(values[1:]) for name, values in seconds.items()},
                "in_turn_over_thread_ahead": summary(ahead),
            },
        },
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15, help="at least 2; default 15")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch; default 1")
    given = parser.parse_args()
    main(given.repeats, given.threads)
