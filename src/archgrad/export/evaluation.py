"""What both exports compare: the network in evaluation mode on the host, on random and real images."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from archgrad.errors import UserError, WorkError
from archgrad.randomness import Streams

RANDOM_IMAGES = 4
REAL_IMAGES = 32
"""At most so many real images are compared: enough to see a difference, quick on a laptop."""


@contextmanager
def evaluation(network: nn.Module) -> Iterator[None]:
    """Inside: evaluation mode, on the CPU, no gradient. Afterwards: everything as it was.

    The comparison runs on the CPU because a GPU may round convolutions to TensorFloat-32.
    """
    training = [(module, module.training) for module in network.modules()]
    tensors = [*network.parameters(), *network.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    try:
        with torch.no_grad():
            network.to("cpu").eval()
            yield
    finally:
        network.to(device)
        for module, flag in training:
            module.training = flag


def comparison_images(shape: tuple[int, int, int], real_images: Tensor | None) -> Tensor:
    """Standard normal images, then the first of `real_images` [N, C, H, W]: together [B, C, H, W].

    `real_images` are as the network takes them, that is, already normalised.

    Raises:
        UserError: `real_images` are not [N, C, H, W] with (C, H, W) = `shape`.
    """
    generator = Streams(0).generator("export")
    random_images = torch.randn(RANDOM_IMAGES, *shape, generator=generator)
    if real_images is None:
        return random_images
    if real_images.dim() != 4 or tuple(real_images.shape[1:]) != tuple(shape):
        raise UserError(
            f"real_images must be normalised images [N, {', '.join(map(str, shape))}], "
            f"got a tensor of shape {list(real_images.shape)}"
        )
    return torch.cat([random_images, real_images[:REAL_IMAGES].detach().to("cpu", torch.float32)])


def outputs(network: nn.Module, images: Tensor) -> Tensor:
    """The network's output [B, classes] on images [B, C, H, W].

    Raises:
        UserError: the output is not one tensor.
    """
    result = network(images)
    if not isinstance(result, Tensor):
        raise UserError(
            "only a network whose output in evaluation mode is one tensor [B, classes] can be exported; "
            f"this one returns {type(result).__name__}"
        )
    return result


def refuse_difference(difference: float, allowed: float, what: str, target: Path) -> None:
    """Refuse an export whose outputs are off by more than `allowed`; called before `target` is written.

    Raises:
        WorkError: the difference is larger, or NaN.
    """
    if not difference <= allowed:  # written so that NaN fails, too
        raise WorkError(
            f"{what} differs from the network by {difference:.3g} (allowed: {allowed:.3g}); {target} was not "
            "written; please report this with the space's source"
        )
