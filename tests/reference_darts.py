"""Supernets of DARTS and NAS-Bench-201 written out slowly from the definitions, to compare with.

Nothing of archgrad is used, and of PyTorch no layer: a convolution is a loop over its taps, a normalisation
is its formula, a network is a function of a dictionary of weights with names of our own. Supernets in search
only: BatchNorm without scale and shift but in the stem (NAS-Bench-201: and outside the cells).

Sources: Liu et al. 2019, DARTS (arXiv 1806.09055), section 2 and appendix A; Dong & Yang 2020, NAS-Bench-201
(arXiv 2001.00326), section 2; the layers as in the code that their authors published. That of NAS-Bench-201
gives convolutions before a BatchNorm without shift a bias, which the BatchNorm takes away again; none here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

DARTS_OPERATIONS = [
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
]
NASBENCH201_OPERATIONS = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"]

Edge = tuple[int, int]
"""(from, into). The nodes 0 and 1 of a DARTS cell are its inputs, as is node 0 of one of NAS-Bench-201."""


Windows = tuple[tuple[int, int], tuple[int, int]]
"""The first place and the one after the last, of two windows."""


class Network:
    """Weights and running statistics by name; `weight_named` is asked for a weight when it is first used."""

    def __init__(self, weight_named: Callable[[str], Tensor]) -> None:
        self.weight_named = weight_named
        self.weights: dict[str, Tensor] = {}
        self.running: dict[str, tuple[Tensor, Tensor]] = {}  # BatchNorm: mean and variance
        self.training = True

    def weight(self, name: str, *shape: int) -> Tensor:
        if name not in self.weights:
            self.weights[name] = self.weight_named(name)
        assert tuple(self.weights[name].shape) == shape, name
        return self.weights[name]

    # --- layers ----------------------------------------------------------------------------------

    def normalise(self, x: Tensor, name: str, affine: bool) -> Tensor:
        """(x − mean)/√(variance + 1e-5): of the batch in training, of the running statistics else."""
        channels = x.shape[1]
        if name not in self.running:
            self.running[name] = (x.new_zeros(channels), x.new_ones(channels))
        mean, variance = self.running[name]
        if self.training:
            count = x.shape[0] * x.shape[2] * x.shape[3]
            seen = x.sum(dim=(0, 2, 3)) / count
            spread = ((x - seen[None, :, None, None]) ** 2).sum(dim=(0, 2, 3)) / count
            unbiased = spread.detach() * count / (count - 1)
            self.running[name] = (0.9 * mean + 0.1 * seen.detach(), 0.9 * variance + 0.1 * unbiased)
            mean, variance = seen, spread
        y = (x - mean[None, :, None, None]) / (variance[None, :, None, None] + 1e-5).sqrt()
        if affine:
            scale, shift = self.weight(f"{name}, scale", channels), self.weight(f"{name}, shift", channels)
            y = y * scale[None, :, None, None] + shift[None, :, None, None]
        return y

    def convolve(self, x: Tensor, name: str, c_out: int, kernel: int, stride: int = 1) -> Tensor:
        """All channels with all channels; as much padding as keeps the size at stride 1."""
        w = self.weight(name, c_out, x.shape[1], kernel, kernel)
        return sum(  # type: ignore[return-value]
            torch.einsum("bchw,dc->bdhw", part, w[:, :, u, v])
            for u, v, part in taps(x, kernel, stride, 1, 0.0)
        )

    def depthwise(self, x: Tensor, name: str, kernel: int, stride: int, dilation: int) -> Tensor:
        """Each channel by itself."""
        w = self.weight(name, x.shape[1], 1, kernel, kernel)
        return sum(  # type: ignore[return-value]
            part * w[None, :, 0, u, v, None, None] for u, v, part in taps(x, kernel, stride, dilation, 0.0)
        )

    def classify(self, x: Tensor, classes: int) -> Tensor:
        """Mean over all pixels, then a linear layer."""
        pooled = x.sum(dim=(2, 3)) / (x.shape[2] * x.shape[3])
        w, b = self.weight("classifier", classes, x.shape[1]), self.weight("classifier, bias", classes)
        return pooled @ w.T + b

    def relu_conv_bn(
        self, x: Tensor, name: str, c_out: int, kernel: int, stride: int, affine: bool = False
    ) -> Tensor:
        return self.normalise(self.convolve(relu(x), name, c_out, kernel, stride), f"{name}, norm", affine)

    def factorized_reduce(self, x: Tensor, name: str, c_out: int) -> Tensor:
        """Half of the channels from the pixels at even places, half from those at odd places.

        Where a side is odd the last odd place is outside of the image: zero there.
        """
        x = relu(x)
        height, width = x.shape[2:]
        padded = x.new_zeros(x.shape[0], x.shape[1], height + height % 2, width + width % 2)
        padded[:, :, :height, :width] = x
        halves = [
            self.convolve(padded[:, :, start::2, start::2], f"{name}, {place}", c_out // 2, 1)
            for start, place in ((0, "even"), (1, "odd"))
        ]
        return self.normalise(torch.cat(halves, dim=1), f"{name}, norm", affine=False)

    # --- candidates ------------------------------------------------------------------------------

    def operation(self, x: Tensor, name: str, operation: str, stride: int) -> Tensor:
        """One candidate of a DARTS edge."""
        channels = x.shape[1]
        if operation == "none":
            return x[:, :, ::stride, ::stride] * 0
        if operation == "skip_connect":
            return x if stride == 1 else self.factorized_reduce(x, name, channels)
        if operation == "max_pool_3x3":
            return self.normalise(max_pool(x, stride), f"{name}, norm", affine=False)
        if operation == "avg_pool_3x3":
            return self.normalise(average_pool(x, stride), f"{name}, norm", affine=False)
        kind, kernel = operation.split("_conv_")[0], int(operation[-1])
        if kind == "dil":
            x = self.depthwise(relu(x), f"{name}, depthwise", kernel, stride, 2)
            x = self.convolve(x, f"{name}, pointwise", channels, 1)
            return self.normalise(x, f"{name}, norm", affine=False)
        for time in (1, 2):
            x = self.depthwise(relu(x), f"{name}, depthwise {time}", kernel, stride if time == 1 else 1, 1)
            x = self.convolve(x, f"{name}, pointwise {time}", channels, 1)
            x = self.normalise(x, f"{name}, norm {time}", affine=False)
        return x

    def small_operation(self, x: Tensor, name: str, operation: str) -> Tensor:
        """One candidate of a NAS-Bench-201 edge."""
        if operation == "none":
            return x * 0
        if operation == "skip_connect":
            return x
        if operation == "avg_pool_3x3":
            return average_pool(x, 1)
        return self.relu_conv_bn(x, name, x.shape[1], int(operation[-1]), 1)

    # --- at the ends of a network -----------------------------------------------------------------

    def imagenet_stem(self, x: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        """The two inputs of the first cell for images of ImageNet, at 1/4 and at 1/8 of their size."""
        x = self.normalise(self.convolve(x, "stem 1", channels // 2, 3, 2), "stem 1, norm", affine=True)
        x = self.normalise(self.convolve(relu(x), "stem 2", channels, 3, 2), "stem 2, norm", affine=True)
        y = self.normalise(self.convolve(relu(x), "stem 3", channels, 3, 2), "stem 3, norm", affine=True)
        return x, y

    def auxiliary(self, x: Tensor, classes: int, rows: Windows, columns: Windows, norm: bool) -> Tensor:
        """Logits of an inner feature map: means over 2×2 windows, then 128 and 768 channels.

        rows, columns: (first, last + 1) of each window. norm: whether the 768 are normalised (CIFAR alone).
        """
        x = relu(x)
        means = [[x[:, :, a:b, c:d].mean(dim=(2, 3)) for c, d in columns] for a, b in rows]
        x = torch.stack([torch.stack(row, dim=-1) for row in means], dim=-2)
        x = relu(self.normalise(self.convolve(x, "middle", 128, 1), "middle, norm", affine=True))
        w = self.weight("wide", 768, 128, 2, 2)
        y = torch.stack([x[:, :, u, v] @ w[:, :, u, v].T for u in (0, 1) for v in (0, 1)]).sum(dim=0)
        y = y[:, :, None, None]
        if norm:
            y = self.normalise(y, "wide, norm", affine=True)
        return self.classify(relu(y), classes)

    # --- networks --------------------------------------------------------------------------------

    def darts(
        self, x: Tensor, alpha: dict[str, dict[Edge, Tensor]], channels: int, cells: int, classes: int
    ) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W]; alpha["normal" | "reduce"][edge] is [8]."""
        stem = self.normalise(self.convolve(x, "stem", 3 * channels, 3), "stem, norm", affine=True)
        before, last = stem, stem
        reduced_before = False
        for cell in range(cells):
            reduce = cell in (cells // 3, 2 * cells // 3)
            if reduce:
                channels = 2 * channels
            name = f"cell {cell}"
            if reduced_before:
                s0 = self.factorized_reduce(before, f"{name}, input 0", channels)
            else:
                s0 = self.relu_conv_bn(before, f"{name}, input 0", channels, 1, 1)
            states = [s0, self.relu_conv_bn(last, f"{name}, input 1", channels, 1, 1)]
            for into in (2, 3, 4, 5):
                node = torch.zeros(())
                for source in range(into):
                    stride = 2 if reduce and source in (0, 1) else 1
                    weights = softmax(alpha["reduce" if reduce else "normal"][source, into])
                    for weight, operation in zip(weights, DARTS_OPERATIONS, strict=True):
                        here = f"{name}, edge {source} to {into}, {operation}"
                        node = node + weight * self.operation(states[source], here, operation, stride)
                states.append(node)
            before, last = last, torch.cat(states[2:], dim=1)
            reduced_before = reduce
        return self.classify(last, classes)

    def nasbench201(
        self, x: Tensor, alpha: dict[Edge, Tensor], channels: int, cells: int, classes: int
    ) -> Tensor:
        """Logits [B, classes] of images [B, C, H, W], sides divisible by 4; alpha[edge] is [5]."""
        x = self.normalise(self.convolve(x, "stem", channels, 3), "stem, norm", affine=True)
        for stage in range(3):
            if stage > 0:
                channels = 2 * channels
                name = f"reduction {stage}"
                shortcut = (
                    x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]
                ) / 4
                shortcut = self.convolve(shortcut, f"{name}, shortcut", channels, 1)
                x = self.relu_conv_bn(x, f"{name}, first", channels, 3, 2, affine=True)
                x = self.relu_conv_bn(x, f"{name}, second", channels, 3, 1, affine=True) + shortcut
            for cell in range(cells):
                states = [x]
                for into in (1, 2, 3):
                    node = torch.zeros(())
                    for source in range(into):
                        weights = softmax(alpha[source, into])
                        for weight, operation in zip(weights, NASBENCH201_OPERATIONS, strict=True):
                            here = f"stage {stage}, cell {cell}, edge {source} to {into}, {operation}"
                            node = node + weight * self.small_operation(states[source], here, operation)
                    states.append(node)
                x = states[3]
        return self.classify(relu(self.normalise(x, "last norm", affine=True)), classes)


def taps(x: Tensor, kernel: int, stride: int, dilation: int, outside: float) -> list[tuple[int, int, Tensor]]:
    """(u, v, what the tap at row u and column v of the kernel sees [B, C, ⌈H/stride⌉, ⌈W/stride⌉])."""
    batch, channels, height, width = x.shape
    reach = dilation * (kernel - 1) // 2
    around = x.new_full((batch, channels, height + 2 * reach, width + 2 * reach), outside)
    around[:, :, reach : reach + height, reach : reach + width] = x
    return [
        (
            u,
            v,
            around[:, :, u * dilation :, v * dilation :][:, :, :height:stride, :width:stride],
        )
        for u in range(kernel)
        for v in range(kernel)
    ]


def max_pool(x: Tensor, stride: int) -> Tensor:
    """The largest of 3×3 pixels, of those that are inside."""
    return torch.stack([part for _, _, part in taps(x, 3, stride, 1, -torch.inf)]).amax(dim=0)


def average_pool(x: Tensor, stride: int) -> Tensor:
    """The mean of 3×3 pixels, of those that are inside."""
    total, count = torch.zeros(()), torch.zeros(())
    for _, _, part in taps(x, 3, stride, 1, 0.0):
        total = total + part
    for _, _, part in taps(torch.ones_like(x), 3, stride, 1, 0.0):
        count = count + part
    return total / count


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


def softmax(row: Tensor) -> Tensor:
    exponentials = [value.exp() for value in row]
    total: Tensor = sum(exponentials)  # type: ignore[assignment]
    return torch.stack([value / total for value in exponentials])


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of −log p(label)."""
    losses = [-softmax(row)[int(label)].log() for row, label in zip(logits, labels, strict=True)]
    return torch.stack(losses).sum() / len(losses)
