"""The ImageNet stem and the auxiliary heads beside a plain transcription of their definitions, in float64.

Outputs, running statistics, the gradients of the input and of all weights, to 1e-9 relative.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from archgrad.choice import supernet
from archgrad.samplers.softmax import Softmax
from archgrad.spaces import SPACES
from archgrad.spaces.auxiliary import AuxiliaryHead
from archgrad.spaces.stems import ImageNetStem

DOUBLE = torch.float64
CLASSES = 5


def _reference() -> ModuleType:
    path = Path(__file__).with_name("reference_darts.py")
    spec = importlib.util.spec_from_file_location("reference_darts", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


reference: Any = _reference()

STEM = {  # layers as the reference calls them: (convolution, BatchNorm) here
    "stem 1": ("first.0", "first.1"),
    "stem 2": ("first.3", "first.4"),
    "stem 3": ("second.1", "second.2"),
}
HEAD = {"middle": ("features.2", "features.3"), "wide": ("features.5", "features.6")}


def path(name: str, layers: dict[str, tuple[str, str]]) -> str:
    """The path in archgrad's module of a parameter or a BatchNorm of the reference."""
    if name.startswith("classifier"):
        return "classifier.bias" if name.endswith("bias") else "classifier.weight"
    layer, *rest = name.split(", ")
    convolution, norm = layers[layer]
    end = {"": ".weight", "norm": "", "norm scale": ".weight", "norm shift": ".bias"}[" ".join(rest)]
    return (norm if rest else convolution) + end


def close(found: Tensor, wanted: Tensor, what: str) -> None:
    """Within 1e-9 of the largest number of the tensor."""
    found, wanted = found.detach(), wanted.detach()
    assert found.shape == wanted.shape, what
    error = float((found - wanted).abs().max())
    assert error <= 1e-9 * float(wanted.abs().max()), f"{what}: off by {error:.1e}"


def compare(
    ours: nn.Module,
    forward: Callable[[Any, Tensor], tuple[Tensor, ...]],
    layers: dict[str, tuple[str, str]],
    shape: tuple[int, int, int],
) -> None:
    """A pass in training and one in evaluation mode, each with all gradients; then the statistics."""
    ours.double()
    generator = torch.Generator().manual_seed(1)
    named = dict(ours.named_parameters())
    with torch.no_grad():
        for parameter in named.values():
            fan_in = max(parameter[0].numel(), 4)
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=DOUBLE) / fan_in**0.5)
    theirs = reference.Network(lambda name: named[path(name, layers)].detach().clone().requires_grad_())
    for training in (True, False):
        ours.train(training)
        theirs.training = training
        x = torch.randn(6, *shape, generator=generator, dtype=DOUBLE).requires_grad_()
        found = ours(x)
        found = found if isinstance(found, tuple) else (found,)
        wanted = forward(theirs, x)
        directions = [torch.randn(y.shape, generator=generator, dtype=DOUBLE) for y in wanted]
        for i, (got, right) in enumerate(zip(found, wanted, strict=True)):
            close(got, right, f"output {i}, training={training}")
        weights: dict[str, Tensor] = theirs.weights
        assert sorted(path(name, layers) for name in weights) == sorted(named)
        of = [x, *(named[path(name, layers)] for name in weights)]
        gradients = torch.autograd.grad(found, of, directions)
        by_hand = torch.autograd.grad(wanted, [x, *weights.values()], directions)
        for name, one, other in zip(["input", *weights], gradients, by_hand, strict=True):
            close(one, other, f"gradient of {name}, training={training}")
    modules = dict(ours.named_modules())
    norms = [place for place, module in modules.items() if isinstance(module, nn.BatchNorm2d)]
    assert sorted(path(name, layers) for name in theirs.running) == sorted(norms)
    for name, (mean, variance) in theirs.running.items():
        norm: Any = modules[path(name, layers)]
        close(norm.running_mean, mean, f"{name}, mean")
        close(norm.running_var, variance, f"{name}, variance")


@pytest.mark.parametrize("size", [(32, 32), (25, 18)], ids=str)
def test_the_imagenet_stem_is_that_of_the_definitions(size: tuple[int, int]) -> None:
    def forward(theirs: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        first, second = theirs.imagenet_stem(x, 6)
        return first, second

    compare(ImageNetStem(3, 6), forward, STEM, (3, *size))


# form, size, rows and columns of the windows
HEADS: list[tuple[Literal["cifar", "imagenet"], tuple[int, int], Any, Any]] = [
    ("cifar", (8, 8), ((0, 5), (3, 8)), ((0, 5), (3, 8))),  # published: 5×5, three apart
    ("imagenet", (7, 7), ((0, 5), (2, 7)), ((0, 5), (2, 7))),  # published: 5×5, two apart
    ("cifar", (7, 7), ((0, 4), (3, 7)), ((0, 4), (3, 7))),  # all others: halves, an odd one's middle in both
    ("imagenet", (8, 8), ((0, 4), (4, 8)), ((0, 4), (4, 8))),
    ("cifar", (4, 3), ((0, 2), (2, 4)), ((0, 2), (1, 3))),
    ("imagenet", (2, 1), ((0, 1), (1, 2)), ((0, 1), (0, 1))),
]


@pytest.mark.parametrize(("form", "size", "rows", "columns"), HEADS, ids=str)
def test_the_auxiliary_heads_are_those_of_the_definitions(
    form: Literal["cifar", "imagenet"], size: tuple[int, int], rows: Any, columns: Any
) -> None:
    """That of ImageNet does not normalise its second convolution."""

    def forward(theirs: Any, x: Tensor) -> tuple[Tensor]:
        return (theirs.auxiliary(x, CLASSES, rows, columns, form == "cifar"),)

    compare(AuxiliaryHead(6, size, CLASSES, form), forward, HEAD, (6, *size))


@pytest.mark.parametrize(("space", "side", "inner"), [("darts", 32, 8), ("darts_imagenet", 224, 7)])
def test_a_network_of_the_published_image_size_has_the_published_head(
    space: str, side: int, inner: int
) -> None:
    """32×32 for CIFAR, 224×224 for ImageNet: the head sees 8×8 and 7×7, and pools 5×5 there."""
    of = supernet(
        SPACES[space].builder, (3, side, side), CLASSES,
        channels=2, cells=3, nodes=1, auxiliary=True, candidates=("skip_connect", "none"),
    )  # fmt: skip
    head: Any = of.network.auxiliary
    seen: list[torch.Size] = []
    head.register_forward_hook(lambda module, x, y: seen.append(x[0].shape))
    generator = torch.Generator().manual_seed(0)
    samples = [Softmax()(torch.zeros(len(g.names), len(g.candidates)), 1.0, generator) for g in of.groups]
    logits, side_logits = of.train()(torch.randn(2, 3, side, side, generator=generator), samples)
    assert logits.shape == side_logits.shape == (2, CLASSES)
    assert seen == [(2, 8, inner, inner)]
    pool = head.features[1]
    assert (pool.kernel_size, pool.stride) == (5, {8: 3, 7: 2}[inner])
