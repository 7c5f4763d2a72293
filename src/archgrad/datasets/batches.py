"""Batches as a pure function of (seed, name, epoch, step): nothing to save, nothing to fast-forward.

Shapes: B images of C channels, H×W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from archgrad.datasets.augmentation import Augmentation
from archgrad.datasets.images import ImageSource, MemoryImages
from archgrad.datasets.normalisation import Normalisation, normalisation_of
from archgrad.errors import UserError
from archgrad.randomness import Streams

__all__ = ["Augmentation", "Batches", "Normalisation", "normalisation_of"]


class Batches:
    """One part of a data set in batches: shuffled, augmented and normalised.

    source, indices: the part, `indices` being int64 [N] into `source`.
    batch_size: images a batch, B.
    normalisation: subtracted and divided by, per channel, after scaling pixels to [0, 1].
    streams, name: the epoch's order comes from the stream (name, epoch), a batch's augmentation from
        (name + "/augment", epoch, step). A message calls the batch size by the configuration's key, which
        begins as the name does: "search/weights" has "search.batch_size".
    shuffle: without it, every epoch goes through `indices` in their order.
    drop_last: leave out the last, short batch of an epoch; without it, that batch is given too.
    device: where the batches live. Images in memory are copied there once, not batch by batch.
    channels_last: give x in the channels-last memory format.

    Raises:
        UserError: no image, a batch size below 1, an index outside the source, a normalisation for
            another number of channels, or (with `drop_last`) a batch larger than the part.
    """

    def __init__(
        self,
        source: ImageSource,
        indices: Tensor,
        batch_size: int,
        *,
        normalisation: Normalisation,
        augmentation: Augmentation,
        streams: Streams,
        name: str,
        shuffle: bool = True,
        drop_last: bool = True,
        device: torch.device | str = "cpu",
        channels_last: bool = False,
    ) -> None:
        count, channels = len(indices), source.shape[0]
        setting = f"{name.partition('/')[0]}.batch_size"
        if batch_size < 1:
            raise UserError(f"{setting}: a batch has at least one image; got {batch_size}")
        if count == 0:
            raise UserError(f"{name}: this part of the data has no image")
        if drop_last and batch_size > count:
            raise UserError(
                f"{setting}: {batch_size} is larger than the part of the data it is for ({name}), which has "
                f"{count} images; give at most {count}"
            )
        if int(indices.min()) < 0 or int(indices.max()) >= len(source):
            raise UserError(
                f"{name}: indices go from {int(indices.min())} to {int(indices.max())}, but the source has "
                f"{len(source)} images"
            )
        if not len(normalisation.mean) == len(normalisation.std) == channels:
            raise UserError(
                f"{name}: images have {channels} channel(s), the normalisation {len(normalisation.mean)} "
                f"means and {len(normalisation.std)} deviations"
            )
        self.name = name
        self.batch_size = batch_size
        self.device = torch.device(device)
        # Decoding on demand can go on while the device computes. For decoded images a thread ahead made
        # training slower (benchmarks/data_path.py): a batch of them takes about a millisecond.
        self._prefetch = not isinstance(source, MemoryImages)
        self._source = source.to(device) if isinstance(source, MemoryImages) else source
        self._indices = indices.cpu()
        self._labels = source.labels.cpu()
        self._mean = torch.tensor(normalisation.mean, device=device).view(1, channels, 1, 1)
        self._std = torch.tensor(normalisation.std, device=device).view(1, channels, 1, 1)
        self._augmentation = augmentation
        self._streams = streams
        self._shuffle = shuffle
        self._drop_last = drop_last
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        self._order: tuple[int, Tensor] | None = None  # (epoch, its order)

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        whole, rest = divmod(len(self._indices), self.batch_size)
        return whole if self._drop_last or rest == 0 else whole + 1

    def batch(self, epoch: int, step: int) -> tuple[Tensor, Tensor]:
        """Batch `step` (0 … steps−1) of `epoch`: x float32 [B, C, H, W], y int64 [B].

        Bit-identical on every call.

        Raises:
            IndexError: no such step.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"{self.name}: step {step} of an epoch of {self.steps} steps")
        start = step * self.batch_size
        chosen = self._order_of(epoch)[start : start + self.batch_size]
        pixels = self._source.fetch(chosen).to(self.device)
        _, _, h, w = pixels.shape
        generator = self._streams.generator(f"{self.name}/augment", epoch, step)
        draw = self._augmentation.draw(len(chosen), h, w, generator)
        pixels = self._augmentation.crop_and_flip(pixels, draw)
        x = pixels.float().div_(255).sub_(self._mean).div_(self._std)
        x = self._augmentation.cut_out_(x, draw).contiguous(memory_format=self._format)
        return x, self._labels[chosen].to(self.device)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of `epoch` from step `start` on.

        Where images are decoded on demand, the next batch is prepared in a thread meanwhile.
        """
        if not self._prefetch:
            for step in range(start, self.steps):
                yield self.batch(epoch, step)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as ahead:
            upcoming = ahead.submit(self.batch, epoch, start) if start < self.steps else None
            for step in range(start, self.steps):
                assert upcoming is not None
                ready = upcoming.result()
                upcoming = ahead.submit(self.batch, epoch, step + 1) if step + 1 < self.steps else None
                yield ready

    def _order_of(self, epoch: int) -> Tensor:
        """The indices in the order of `epoch`; the last epoch's order is kept."""
        if not self._shuffle:
            return self._indices
        kept = self._order
        if kept is None or kept[0] != epoch:
            permutation = torch.randperm(
                len(self._indices), generator=self._streams.generator(self.name, epoch)
            )
            kept = self._order = (epoch, self._indices[permutation])
        return kept[1]
