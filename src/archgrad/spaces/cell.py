"""The DARTS space: a normal and a reduction cell, each node fed by all nodes before it.

Liu et al. 2019 (arXiv 1806.09055), section 2.1 and appendix A; details as in the authors' code. Partial
channels and edge normalisation: Xu et al. 2020 (arXiv 1907.05737). B C H W throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from archgrad.architecture import Edge
from archgrad.choice import Blend, Droppable, Pick, Sum
from archgrad.errors import UserError
from archgrad.ops import OPS
from archgrad.ops.convolution import ReLUConvBN
from archgrad.ops.skip import FactorizedReduce
from archgrad.ops.take import Take
from archgrad.ops.zero import Zero
from archgrad.spaces.auxiliary import AuxiliaryHead
from archgrad.spaces.drop_path import DropPath
from archgrad.spaces.partial_channels import PartialChannels, check_divisible
from archgrad.spaces.space import Shape, Space, check_counts, check_different
from archgrad.spaces.stems import CifarStem, ImageNetStem

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


Kind = Literal["normal", "reduce"]


@dataclass(frozen=True)
class CellDesign:
    """What all cells of a network have in common; the settings of `DartsNetwork` that are about cells."""

    nodes: int
    parallel: int
    concat: Mapping[Kind, Sequence[int]]
    candidates: Sequence[str] | Mapping[str, Sequence[str]]
    affine: bool
    pool_norm: bool
    partial_channels: int
    edge_normalisation: bool

    def __post_init__(self) -> None:
        check_counts(nodes=self.nodes, parallel=self.parallel)
        if isinstance(self.candidates, Mapping):
            for edge, candidates in self.candidates.items():
                check_different(candidates, f" of the edge {edge!r}")
        else:
            check_different(self.candidates)
        for kind, concat in self.concat.items():
            if (
                not concat
                or len(set(concat)) < len(concat)
                or not set(concat) <= set(range(2, self.nodes + 2))
            ):
                raise UserError(
                    f"space.{kind}_concat: the output is made of different nodes from 2 to {self.nodes + 1} "
                    f"(space.nodes={self.nodes}), got {list(concat)}"
                )

    def edges(self, kind: Kind, node: int) -> list[Edge]:
        """All edges into a node."""
        return [
            Edge(kind, node, source, parallel)
            for source in range(node)
            for parallel in range(1, self.parallel + 1)
        ]

    def candidates_of(self, edge: Edge) -> Sequence[str]:
        """The candidates of an edge.

        Raises:
            UserError: candidates are given edge by edge, and not for this one.
        """
        if not isinstance(self.candidates, Mapping):
            return self.candidates
        if str(edge) not in self.candidates:
            raise UserError(
                f"space.candidates: gives none for the edge {str(edge)!r}; give a list for every edge, "
                "or one list for all"
            )
        return self.candidates[str(edge)]


class Cell(nn.Module):
    """Two inputs, `nodes` intermediate nodes, output the concatenation of some of them.

    Node j = Σ_{i<j} edge(i→j), where 0 and 1 are the outputs of the two cells before. An edge's choice
    is named ``kind/j<-i`` (a second one between the same nodes ``kind/j<-i#2``), so all cells of a kind share
    their logits. An edge without the candidate `none` may still be dropped by the derivation. With edge
    normalisation the sum is weighed by the blend ``kind/j``, whose candidates are the sources.
    """

    def __init__(
        self,
        pick: Pick,
        kind: Kind,
        c_before: int,
        c_previous: int,
        channels: int,
        reduced_before: bool,
        design: CellDesign,
    ):
        super().__init__()
        self.preprocess0: nn.Module = (
            FactorizedReduce(c_before, channels, design.affine)
            if reduced_before
            else ReLUConvBN(c_before, channels, 1, 1, design.affine)
        )
        self.preprocess1 = ReLUConvBN(c_previous, channels, 1, 1, design.affine)
        self.incoming: list[list[tuple[str, int]]] = []  # by node: (key of the edge, source)
        self.edges = nn.ModuleDict()
        self.weighing = nn.ModuleDict()
        self.concat = tuple(design.concat[kind])
        for node in range(2, 2 + design.nodes):
            into = design.edges(kind, node)
            keys = [str(edge).partition("<-")[2] for edge in into]  # "0", "1", "1#2"
            self.incoming.append([(f"{node}<-{key}", e.source) for key, e in zip(keys, into, strict=True)])
            for key, edge in zip(keys, into, strict=True):
                stride = 2 if kind == "reduce" and edge.source < 2 else 1
                self.edges[f"{node}<-{key}"] = _edge(pick, edge, channels, stride, design)
            if design.edge_normalisation:
                blend = pick(f"{kind}/{node}", Blend({key: partial(Take, i) for i, key in enumerate(keys)}))
                if not isinstance(blend, Sum):  # in a derived network the edges are added, as everywhere
                    self.weighing[str(node)] = blend

    def forward(self, s0: Tensor, s1: Tensor) -> Tensor:
        """Outputs of the cell before the last [B, c_before, H', W'] and of the last -> [B, n·C, H, W]."""
        states = [self.preprocess0(s0), self.preprocess1(s1)]
        for node, incoming in enumerate(self.incoming, start=2):
            edges = [(self.edges[key], states[source]) for key, source in incoming]
            if str(node) in self.weighing:
                states.append(self.weighing[str(node)](*(edge(x) for edge, x in edges)))
                continue
            # A removed edge costs nothing; a node with no edge left is zero.
            kept = [(edge, x) for edge, x in edges if not isinstance(edge, Zero)] or edges[:1]
            total = kept[0][0](kept[0][1])
            for edge, x in kept[1:]:
                total = total + edge(x)
            states.append(total)
        return torch.cat([states[node] for node in self.concat], dim=1)


def _edge(pick: Pick, edge: Edge, channels: int, stride: int, design: CellDesign) -> nn.Module:
    """An edge's choice, with partial channels and drop path where they belong."""
    names, k = design.candidates_of(edge), design.partial_channels
    width = channels // k
    options = {
        name: partial(cell_candidate, name, width, stride, design.affine, design.pool_norm) for name in names
    }
    choice = pick(
        str(edge),
        options if "none" in options else Droppable(options, dropped=partial(Zero, width, width, stride)),
    )
    if k > 1:
        choice = PartialChannels(choice, channels, k, stride)
    return choice if isinstance(choice, nn.Identity | Zero) else nn.Sequential(choice, DropPath())


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
        parallel: edges between two nodes (published: 1; the NASNet cell has two between some).
        normal_concat, reduce_concat: the nodes that make the output of a cell; by default all.
        stem: "cifar" keeps the size, "imagenet" is at 1/8 of it before the first cell.
        stem_multiplier: the CIFAR stem has stem_multiplier·channels channels (default, published: 3).
        candidates: operation names, one list for all edges or one for each by its choice's name.
        affine: whether BatchNorm inside cells has scale and shift (search: no).
        pool_norm: whether poolings are followed by BatchNorm (search: yes; some authors keep it in training).
        auxiliary: whether there is an auxiliary head after the second reduction.
        partial_channels: k, where only 1/k of an edge's channels go through the candidates (PC-DARTS: 4).
        edge_normalisation: whether the edges into a node are weighed by a softmax (PC-DARTS: yes).
        odd_sizes: reductions of an odd size "pad" it by a row or column, or are an error ("refuse"): the
            authors' code cannot reduce them.
    """

    def __init__(
        self,
        pick: Pick,
        shape: Shape,
        classes: int,
        channels: int = 36,
        cells: int = 20,
        nodes: int = 4,
        parallel: int = 1,
        normal_concat: Sequence[int] | None = None,
        reduce_concat: Sequence[int] | None = None,
        stem: Literal["cifar", "imagenet"] = "cifar",
        stem_multiplier: int | None = None,
        candidates: Sequence[str] | Mapping[str, Sequence[str]] = DARTS_CANDIDATES,
        affine: bool = True,
        pool_norm: bool = False,
        auxiliary: bool = False,
        partial_channels: int = 1,
        edge_normalisation: bool = False,
        odd_sizes: Literal["pad", "refuse"] = "pad",
    ):
        super().__init__()
        check_counts(channels=channels, cells=cells, nodes=nodes)
        if stem_multiplier is not None:
            check_counts(stem_multiplier=stem_multiplier)
        if cells < 3:
            raise UserError(
                f"a DARTS network has a normal and two reduction cells, so cells >= 3; got {cells}"
            )
        for key, value, known in (
            ("stem", stem, ("cifar", "imagenet")),
            ("odd_sizes", odd_sizes, ("pad", "refuse")),
        ):
            if value not in known:
                raise UserError(f"space.{key}: {value!r} is none of {', '.join(known)}")
        if stem == "imagenet" and stem_multiplier is not None:
            raise UserError("space.stem_multiplier: only the CIFAR stem has one; leave it out")
        every = tuple(range(2, 2 + nodes))
        design = CellDesign(
            nodes,
            parallel,
            {
                "normal": every if normal_concat is None else normal_concat,
                "reduce": every if reduce_concat is None else reduce_concat,
            },
            candidates,
            affine,
            pool_norm,
            partial_channels,
            edge_normalisation,
        )
        size = shape[1:]
        if stem == "imagenet":
            if channels % 2:
                raise UserError(
                    f"space.channels: the ImageNet stem halves them, so wanted an even number, got {channels}"
                )
            self.stem: nn.Module = ImageNetStem(shape[0], channels)
            for _ in range(3):
                size = _halved(size, odd_sizes)
            c_before = c_previous = channels
        else:
            c_before = c_previous = (3 if stem_multiplier is None else stem_multiplier) * channels
            self.stem = CifarStem(shape[0], c_before)
        self.cells = nn.ModuleList()
        self.auxiliary: AuxiliaryHead | None = None
        reduced_before = stem == "imagenet"
        self.auxiliary_index = 2 * cells // 3
        for index in range(cells):
            kind: Kind = "reduce" if index in (cells // 3, self.auxiliary_index) else "normal"
            if kind == "reduce":
                channels *= 2
                size = _halved(size, odd_sizes)
            check_divisible(channels, partial_channels)
            self.cells.append(Cell(pick, kind, c_before, c_previous, channels, reduced_before, design))
            reduced_before = kind == "reduce"
            c_before, c_previous = c_previous, len(design.concat[kind]) * channels
            if auxiliary and index == self.auxiliary_index:
                self.auxiliary = AuxiliaryHead(c_previous, size, classes, stem)
        self.classifier = nn.Linear(c_previous, classes)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """[B, C, H, W] -> logits [B, classes], and the auxiliary head's in training."""
        s0, s1 = self.stem(x)
        side: Tensor | None = None
        for index, cell in enumerate(self.cells):
            s0, s1 = s1, cell(s0, s1)
            if self.training and self.auxiliary is not None and index == self.auxiliary_index:
                side = self.auxiliary(s1)
        logits: Tensor = self.classifier(s1.mean(dim=(2, 3)))
        return logits if side is None else (logits, side)


def _halved(size: tuple[int, int], odd_sizes: Literal["pad", "refuse"]) -> tuple[int, int]:
    """(⌈H/2⌉, ⌈W/2⌉).

    Raises:
        UserError: a side is odd and that is refused.
    """
    height, width = size
    if odd_sizes == "refuse" and (height % 2 or width % 2):
        raise UserError(
            f"a reduction would halve {height}×{width}, and space.odd_sizes=refuse: give images whose sides "
            "halve evenly (data.resize), or space.odd_sizes=pad"
        )
    return -(-height // 2), -(-width // 2)


# the last two are of the supernet alone: here they keep what a user sets out of the derived network
_SEARCH = {
    "channels": 16,
    "cells": 8,
    "affine": False,
    "pool_norm": True,
    "partial_channels": 1,
    "edge_normalisation": False,
}

DARTS = Space(
    DartsNetwork,
    search=_SEARCH,
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

DARTS_IMAGENET = Space(
    partial(DartsNetwork, stem="imagenet"),
    search=_SEARCH,
    train={"channels": 48, "cells": 14, "auxiliary": True},
    training={
        "epochs": 250,
        "batch_size": 128,
        "learning_rate": 0.1,
        "schedule": "exponential",
        "final_learning_rate": 0.1 * 0.97**250,  # · 0.97 every epoch
        "weight_decay": 3e-5,
        "clip": 5.0,
        "label_smoothing": 0.1,
        "auxiliary_weight": 0.4,
    },
    small_search={"channels": 8, "cells": 3},
    small_train={"channels": 16, "cells": 5, "auxiliary": False},
    rule="darts",
)
