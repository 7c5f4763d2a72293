"""The NAS-Bench-201 space: one densely connected cell, repeated in three stages of doubling width.

Dong & Yang 2020 (arXiv 2001.00326), sections 2.1-2.2. B C H W throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from archgrad.architecture import NASBENCH201_CANDIDATES
from archgrad.choice import Blend, Droppable, Pick, Sum
from archgrad.ops import OPS
from archgrad.ops.convolution import ReLUConvBN
from archgrad.ops.take import Take
from archgrad.ops.zero import Zero
from archgrad.spaces.partial_channels import PartialChannels, check_divisible
from archgrad.spaces.space import Shape, Space, check_counts, check_different


class NasBench201Cell(nn.Module):
    """Node j = Σ_{i<j} edge(i→j); node 0 is the input, the last node the output. Shape is kept.

    partial_channels, edge_normalisation: as in `archgrad.spaces.cell`.
    """

    def __init__(
        self,
        pick: Pick,
        channels: int,
        nodes: int,
        candidates: Sequence[str],
        affine: bool,
        partial_channels: int = 1,
        edge_normalisation: bool = False,
    ):
        super().__init__()
        self.edges = nn.ModuleDict()
        self.weighing = nn.ModuleDict()
        check_divisible(channels, partial_channels)
        width = channels // partial_channels
        for node in range(1, nodes):
            for source in range(node):
                options = {name: partial(OPS[name], width, width, 1, affine) for name in candidates}
                edge = pick(
                    f"cell/{node}<-{source}",
                    options
                    if "none" in options
                    else Droppable(options, dropped=partial(Zero, width, width, 1)),
                )
                if partial_channels > 1:
                    edge = PartialChannels(edge, channels, partial_channels, 1)
                self.edges[f"{node}<-{source}"] = edge
            if edge_normalisation:
                sources = {str(source): partial(Take, source) for source in range(node)}
                blend = pick(f"cell/{node}", Blend(sources))
                if not isinstance(blend, Sum):  # in a derived network the edges are added, as everywhere
                    self.weighing[str(node)] = blend
        self.nodes = nodes

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        states = [x]
        for node in range(1, self.nodes):
            edges = [self.edges[f"{node}<-{source}"](states[source]) for source in range(node)]
            if str(node) in self.weighing:
                states.append(self.weighing[str(node)](*edges))
                continue
            total = edges[0]
            for edge in edges[1:]:
                total = total + edge
            states.append(total)
        return states[-1]


class ResidualReduction(nn.Module):
    """The fixed block between stages: two 3×3 convolutions beside average pooling and 1×1 (H, W halved)."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.conv_a = ReLUConvBN(c_in, c_out, 3, 2)
        self.conv_b = ReLUConvBN(c_out, c_out, 3, 1)
        # ceil_mode and not counting the padding only matter for odd sizes
        self.shortcut = nn.Sequential(
            nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False), nn.Conv2d(c_in, c_out, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, c_in, H, W] -> [B, c_out, ⌈H/2⌉, ⌈W/2⌉]."""
        y: Tensor = self.shortcut(x) + self.conv_b(self.conv_a(x))
        return y


class NasBench201Network(nn.Module):
    """Stem, then `stages` times `cells` cells with a residual reduction between stages, then the head.

    Args:
        pick: the decision maker.
        shape: (C, H, W) of an image.
        classes: number of classes.
        channels: width of the first stage; doubled by each reduction (published: 16).
        cells: cells in a stage (published: 5).
        stages: stages (published: 3).
        nodes: nodes of the cell (published: 4).
        candidates: operation names.
        affine: whether BatchNorm inside cells has scale and shift (search: no; reductions always have).
        partial_channels: k, where only 1/k of an edge's channels go through the candidates.
        edge_normalisation: whether the edges into a node are weighed by a softmax in the supernet.

    Raises:
        UserError: a number below 1, or a candidate given twice.
    """

    def __init__(
        self,
        pick: Pick,
        shape: Shape,
        classes: int,
        channels: int = 16,
        cells: int = 5,
        stages: int = 3,
        nodes: int = 4,
        candidates: Sequence[str] = NASBENCH201_CANDIDATES,
        affine: bool = True,
        partial_channels: int = 1,
        edge_normalisation: bool = False,
    ):
        super().__init__()
        check_counts(channels=channels, cells=cells, stages=stages, nodes=nodes)
        check_different(candidates)
        width = channels
        self.stem = nn.Sequential(nn.Conv2d(shape[0], width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.body = nn.Sequential()
        for stage in range(stages):
            if stage:
                self.body.append(ResidualReduction(width, 2 * width))
                width *= 2
            for _ in range(cells):
                self.body.append(
                    NasBench201Cell(
                        pick, width, nodes, candidates, affine, partial_channels, edge_normalisation
                    )
                )
        self.head = nn.Sequential(
            nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, classes]."""
        y: Tensor = self.head(self.body(self.stem(x)))
        return y


NASBENCH201 = Space(
    NasBench201Network,
    # the last two are of the supernet alone: here they keep what a user sets out of the derived network
    search={"affine": False, "partial_channels": 1, "edge_normalisation": False},
    training={"epochs": 200, "batch_size": 256, "learning_rate": 0.1, "nesterov": True, "weight_decay": 5e-4},
    small_search={"channels": 8, "cells": 1},
    small_train={"channels": 16, "cells": 1},
)
