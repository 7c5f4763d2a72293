"""The controller of ENAS: an LSTM that emits the choices one after another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from archgrad.choice import Group
from archgrad.controllers.controller import Choose
from archgrad.errors import UserError


@dataclass(frozen=True)
class LSTM:
    """h_e = LSTM(x_e, h_{e−1}); logits_e = c·tanh((V_g h_e + b_g)/T); x_{e+1} = z_e · embedding_g.

    z_e are the weights drawn for choice e, so a later choice depends on the earlier ones; x_0 is learned.
    V, b and the embedding belong to a group g of choices with the same K candidates. θ in order: x_0 [H];
    for each layer W [4H, 2H] and b [4H] (gates i, f, g, o); for each group V [K, H], b [K], embedding [K, H].

    hidden: H. layers: stacked cells. tanh_constant: c, which keeps a probability from reaching 0 or 1.
    temperature: T.

    Source: Pham et al. 2018, ENAS (arXiv 1802.03268), section 2; sizes and constants of the NAS-Bench-201
    authors' code. θ ~ U(−0.1, 0.1).
    """

    hidden: int = 32
    layers: int = 2
    tanh_constant: float = 2.5
    temperature: float = 5.0

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "tanh_constant", "temperature"):
            value = getattr(self, name)
            if isinstance(value, bool) or not math.isfinite(value) or value <= 0:
                raise UserError(f"lstm: {name} is a number above 0, got {value!r}")

    def initial(
        self, groups: Sequence[Group], generator: torch.Generator, scale: float, mean: float
    ) -> list[Tensor]:
        """θ ~ U(mean − scale, mean + scale); ENAS: U(−0.1, 0.1)."""
        return [
            (mean + scale * (2 * torch.rand(shape, generator=generator) - 1)).requires_grad_()
            for shape in self.shapes(groups)
        ]

    def shapes(self, groups: Sequence[Group]) -> list[tuple[int, ...]]:
        """See the class."""
        h = self.hidden
        per_group = ([(len(g.candidates), h), (len(g.candidates),), (len(g.candidates), h)] for g in groups)
        return [(h,), *[(4 * h, 2 * h), (4 * h,)] * self.layers, *(s for shapes in per_group for s in shapes)]

    def logits(self, groups: Sequence[Group], theta: Sequence[Tensor], choose: Choose) -> list[Tensor]:
        """Row by row, each given the weights that `choose` returned for those before it."""
        learned: Iterator[Tensor] = iter(theta)
        x = next(learned)
        cells = [(next(learned), next(learned)) for _ in range(self.layers)]
        states = [(torch.zeros_like(x), torch.zeros_like(x)) for _ in cells]
        found = []
        for group in groups:
            out, bias, embedding = next(learned), next(learned), next(learned)
            rows = []
            for _ in group.names:
                for layer, (weight, offset) in enumerate(cells):
                    states[layer] = _cell(x, states[layer], weight, offset)
                    x = states[layer][0]
                score = (_apply(out, x) + bias) / self.temperature
                row = (self.tanh_constant * torch.tanh(score)).unsqueeze(-2)
                x = (choose(row) @ embedding).squeeze(-2)
                rows.append(row)
            found.append(torch.cat(rows, dim=-2))
        return found


def _cell(x: Tensor, state: tuple[Tensor, Tensor], weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """One step of a long short-term memory cell: (h, c) [..., H] (Hochreiter & Schmidhuber 1997)."""
    h, c = state
    i, f, g, o = (_apply(weight, torch.cat([x, h], dim=-1)) + bias).chunk(4, dim=-1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(c), c


def _apply(matrix: Tensor, x: Tensor) -> Tensor:
    """[..., M, N] on [..., N] -> [..., M]."""
    # as a row times the transpose: several times faster than a column in a batch of searches
    return (x.unsqueeze(-2) @ matrix.transpose(-1, -2)).squeeze(-2)
