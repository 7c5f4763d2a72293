"""The DARTS space: a normal and a reduction cell, each node fed by all nodes before it.

Liu et al. 2019 (arXiv 1806.09055), section 2.1 and appendix A; details as in the authors' code.
B C H W throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from archgrad.choice import Pick
from archgrad.errors import UserError
from archgrad.ops import OPS
from archgrad.ops.convolution import ReLUConvBN
from archgrad.ops.skip import FactorizedReduce
from archgrad.ops.zero import Zero
from archgrad.spaces.drop_path import DropPath
from archgrad.spaces.space import Shape, Space

DARTS_CANDIDATES = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)


def cell_candidate(name: str, channels: int, stride: int, affine: bool, pool_norm: bool) -> nn.Module:
    """One candidate of an edge; in search a pooling is followed by BatchNorm without scale and shift."""
    op: nn.Module = OPS[name](channels, channels, stride, affine)
    if pool_norm and isinstance(op, nn.MaxPool2d | nn.AvgPool2d):
        return nn.Sequential(op, nn.BatchNorm2d(channels, affine=affine))
    return op


class Cell(nn.Module):
    """Two inputs, `nodes` intermediate nodes, output their concatenation.

    Node j = Σ_{i<j} edge(i→j), where 0 and 1 are the outputs of the two cells before. An edge's choice
    is named ``kind/j<-i``, so all cells of a kind share their logits.
    """

    def __init__(
        self,
        pick: Pick,
        kind: str,
        c_before: int,
        c_previous: int,
        channels: int,
        reduced_before: bool,
        nodes: int,
        candidates: Sequence[str],
        affine: bool,
        pool_norm: bool,
    ):
        super().__init__()
        reduction = kind == "reduce"
        self.preprocess0: nn.Module = (
            FactorizedReduce(c_before, channels, affine)
            if reduced_before
            else ReLUConvBN(c_before, channels, 1, 1, affine)
        )
        self.preprocess1 = ReLUConvBN(c_previous, channels, 1, 1, affine)
        self.nodes = nodes
        self.edges = nn.ModuleDict()
        for node in range(2, 2 + nodes):
            for source in range(node):
                stride = 2 if reduction and source < 2 else 1
                options = {
                    name: partial(cell_candidate, name, channels, stride, affine, pool_norm)
                    for name in candidates
                }
                edge = pick(f"{kind}/{node}<-{source}", options)
                if not isinstance(edge, nn.Identity | Zero):
                    edge = nn.Sequential(edge, DropPath())
                self.edges[f"{node}<-{source}"] = edge

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Outputs of the cell before the last [B, c_before, H', W'] and of the last -> [B, nodes·C, H, W]."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node in range(2, 2 + self.nodes):
            edges = [(self.edges[f"{node}<-{source}"], states[source]) for source in range(node)]
            # A removed edge costs nothing; a node with no edge left is zero.
            kept = [(edge, x) for edge, x in edges if not isinstance(edge, Zero)] or edges[:1]
            total = kept[0][0](kept[0][1])
            for edge, x in kept[1:]:
                total = total + edge(x)
            states.append(total)
        return torch.cat(states[2:], dim=1)


class AuxiliaryHead(nn.Module):
    """A second classifier on an inner feature map, used in training only (DARTS, CIFAR form).

    The published head pools 8×8 to 2×2; other sizes are pooled to 2×2 adaptively.
    """

    def __init__(self, channels: int, size: tuple[int, int], classes: int):
        super().__init__()
        pool: nn.Module = (
            nn.AvgPool2d(5, stride=3, count_include_pad=False) if size == (8, 8) else nn.AdaptiveAvgPool2d(2)
        )
        self.features = nn.Sequential(
            nn.ReLU(),
            pool,
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768),
            nn.ReLU(),
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, classes]."""
        y: Tensor = self.classifier(self.features(x).flatten(1))
        return y


class DartsNetwork(nn.Module):
    """Stem, `cells` cells with reductions at one and two thirds, global pooling, linear head.

    In training mode with `auxiliary` it returns (logits, auxiliary logits), else the logits.

    Args:
        pick: the decision maker.
        shape: (C, H, W) of an image.
        classes: number of classes.
        channels: width of the first cells; doubled by each reduction (published: 16 search, 36 training).
        cells: number of cells (published: 8 search, 20 training).
        nodes: intermediate nodes of a cell (published: 4).
        stem_multiplier: the stem has stem_multiplier·channels channels (published: 3).
        candidates: operation names.
        affine: whether BatchNorm inside cells has scale and shift (search: no).
        pool_norm: whether poolings are followed by BatchNorm (search: yes).
        auxiliary: whether there is an auxiliary head after the second reduction.
    """

    def __init__(
        self,
        pick: Pick,
        shape: Shape,
        classes: int,
        channels: int = 36,
        cells: int = 20,
        nodes: int = 4,
        stem_multiplier: int = 3,
        candidates: Sequence[str] = DARTS_CANDIDATES,
        affine: bool = True,
        pool_norm: bool = False,
        auxiliary: bool = False,
    ):
        super().__init__()
        _, height, width = shape
        if cells < 3:
            raise UserError(
                f"a DARTS network has a normal and two reduction cells, so cells >= 3; got {cells}"
            )
        stem = stem_multiplier * channels
        self.stem = nn.Sequential(nn.Conv2d(shape[0], stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem))
        self.cells = nn.ModuleList()
        self.auxiliary: AuxiliaryHead | None = None
        c_before = c_previous = stem
        reduced_before = False
        reductions = {cells // 3, 2 * cells // 3}
        for index in range(cells):
            reduction = index in reductions
            if reduction:
                channels *= 2
                height, width = -(-height // 2), -(-width // 2)
            kind = "reduce" if reduction else "normal"
            self.cells.append(
                Cell(
                    pick,
                    kind,
                    c_before,
                    c_previous,
                    channels,
                    reduced_before,
                    nodes,
                    candidates,
                    affine,
                    pool_norm,
                )
            )
            reduced_before = reduction
            c_before, c_previous = c_previous, nodes * channels
            if auxiliary and index == 2 * cells // 3:
                self.auxiliary = AuxiliaryHead(c_previous, (height, width), classes)
        self.auxiliary_index = 2 * cells // 3
        self.classifier = nn.Linear(c_previous, classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """[B, C, H, W] -> logits [B, classes], and the auxiliary head's in training."""
        s0 = s1 = self.stem(x)
        side: Tensor | None = None
        for index, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if self.training and self.auxiliary is not None and index == self.auxiliary_index:
                side = self.auxiliary(s1)
        logits: Tensor = self.classifier(s1.mean(dim=(2, 3)))
        return logits if side is None else (logits, side)


DARTS = Space(
    DartsNetwork,
    search={"channels": 16, "cells": 8, "affine": False, "pool_norm": True},
    train={"channels": 36, "cells": 20, "auxiliary": True},
    training={
        "epochs": 600,
        "batch_size": 96,
        "clip": 5.0,
        "drop_path": 0.2,
        "auxiliary_weight": 0.4,
        "cutout": 16,
    },
    small_search={"channels": 8, "cells": 3},
    small_train={"channels": 16, "cells": 5, "auxiliary": False},
    rule="darts",
)
