"""The second classifier on an inner feature map, used in training only. B C H W throughout.

Liu et al. 2019 (arXiv 1806.09055), section 3.3; details as in the authors' code.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn


class AuxiliaryHead(nn.Module):
    """ReLU, pooling to 2×2, 1×1 to 128 channels, 2×2 to 768, linear.

    The published heads pool 8×8 (CIFAR) and 7×7 (ImageNet); other sizes are pooled to 2×2 adaptively. That
    of ImageNet has no BatchNorm after the second convolution: the authors left it out on purpose.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        classes: int,
        form: Literal["cifar", "imagenet"] = "cifar",
    ):
        super().__init__()
        published, stride = {"cifar": ((8, 8), 3), "imagenet": ((7, 7), 2)}[form]
        pool: nn.Module = (
            nn.AvgPool2d(5, stride=stride, count_include_pad=False)
            if size == published
            else nn.AdaptiveAvgPool2d(2)
        )
        self.features = nn.Sequential(
            nn.ReLU(),
            pool,
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768) if form == "cifar" else nn.Identity(),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, classes]."""
        y: Tensor = self.classifier(self.features(x).flatten(1))
        return y
