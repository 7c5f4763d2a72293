"""A table of losses made differentiable: f(z) = Σ_a Π_e z[e, a_e] · T[a]. E choices × K candidates."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from archgrad.choice import Group
from archgrad.errors import UserError
from archgrad.landscapes.landscape import Landscape, check_index, check_weights, plain_group


class MultilinearLandscape:
    """The multilinear extension of a table.

    Evaluated as two outer products and one matrix product: the first half of the choices spans the
    rows of T, the second half its columns, f(z) = (z₁⊗…⊗z_h) T (z_{h+1}⊗…⊗z_E)ᵀ. For NAS-Bench-201
    (E = 6, K = 5) that is a 125 × 125 matrix.

    Args:
        table: losses, [K] in each of E dimensions, choices in the order of the group's names. Kept in
            float64; evaluated in the precision and on the device of z.
        group: names of choices and candidates; plain numbers if None.
        truth: what a found architecture is scored on, if that is another landscape.

    Raises:
        UserError: the table is no such table, has entries that are not finite, or does not fit the group
            or the truth.
    """

    def __init__(self, table: Tensor, group: Group | None = None, truth: Landscape | None = None) -> None:
        table = torch.as_tensor(table, dtype=torch.float64, device="cpu").detach().clone()
        if table.dim() < 1 or len(set(table.shape)) != 1 or table.numel() == 0:
            raise UserError(
                f"wanted a table of losses with one dimension of K candidates per choice, got shape "
                f"{list(table.shape)}: all dimensions must be equal and at least 1"
            )
        if not bool(table.isfinite().all()):
            where = (~table.isfinite()).nonzero()[0].tolist()
            raise UserError(
                f"a table of losses must be finite; the entry at {where} is {table[tuple(where)]}"
            )
        group = plain_group(table.dim(), len(table)) if group is None else group
        if (len(group.names), len(group.candidates)) != (table.dim(), len(table)):
            raise UserError(
                f"the table is for {table.dim()} choices × {len(table)} candidates, the group has "
                f"{len(group.names)} × {len(group.candidates)}: {group}"
            )
        if truth is not None and truth.groups != (group,):
            raise UserError(f"the truth has choices {truth.groups}, the table {(group,)}: give both the same")
        self.table = table
        self.groups = (group,)
        self._truth = truth
        self._split = table.dim() // 2
        self._matrix = table.reshape(len(table) ** self._split, -1)
        self._copies: dict[tuple[torch.dtype, torch.device], Tensor] = {}

    @property
    def truth(self) -> Landscape:
        """What a found architecture is scored on."""
        return self if self._truth is None else self._truth

    @property
    def optimum(self) -> tuple[int, ...]:
        """Candidate indices of the best architecture, of equal ones the first."""
        index = int(self.table.argmin())
        return tuple(int(k) for k in torch.unravel_index(torch.tensor(index), self.table.shape))

    @property
    def best(self) -> float:
        """The least entry."""
        return float(self.table.min())

    @property
    def worst(self) -> float:
        """The greatest entry."""
        return float(self.table.max())

    def value(self, z: Tensor) -> Tensor:
        """f(z): [..., E, K] -> [...]."""
        check_weights(z, self.groups[0])
        left, right = self._halves(z)
        value: Tensor = ((left @ self._like(z)) * right).sum(dim=-1)
        return value

    def values(self, index: Tensor) -> Tensor:
        """Entries of the table: [..., E] -> [...], float64."""
        check_index(index, self.groups[0])
        return self.table[tuple(index.to("cpu", torch.int64).unbind(dim=-1))]

    def gradient(self, z: Tensor) -> Tensor:
        """∂f/∂z in closed form: [..., E, K] -> [..., E, K]. Row e does not depend on row e of z."""
        check_weights(z, self.groups[0])
        z = z.detach()
        choices, candidates = z.shape[-2:]
        left, right = self._halves(z)
        matrix, split = self._like(z), self._split
        batch = z.shape[:-2]
        by_left = (right @ matrix.T).reshape(*batch, *[candidates] * split)
        by_right = (left @ matrix).reshape(*batch, *[candidates] * (choices - split))
        parts = [_contract(by_left, z[..., :split, :], (e,)) for e in range(split)]
        parts += [_contract(by_right, z[..., split:, :], (e,)) for e in range(choices - split)]
        return torch.stack(parts, dim=-2)

    def hessian(self, z: Tensor) -> Tensor:
        """∂²f/∂z∂z in closed form: [..., E, K] -> [..., E·K, E·K]; blocks of one choice are zero."""
        check_weights(z, self.groups[0])
        z = z.detach()
        choices, candidates = z.shape[-2:]
        found = z.new_zeros(*z.shape[:-2], choices, candidates, choices, candidates)
        table = self._like(z).reshape(self.table.shape)
        for e, other in itertools.combinations(range(choices), 2):
            block = _contract(table, z, (e, other))
            found[..., e, :, other, :] = block
            found[..., other, :, e, :] = block.transpose(-1, -2)
        return found.reshape(*z.shape[:-2], choices * candidates, choices * candidates)

    def _halves(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Outer products of the rows before and after the split: [..., K^h], [..., K^(E−h)]."""
        rows = z.unbind(dim=-2)
        one = z.new_ones(*z.shape[:-2], 1)
        return _outer(rows[: self._split], one), _outer(rows[self._split :], one)

    def _like(self, z: Tensor) -> Tensor:
        """The matrix in z's precision, on its device; converted once."""
        key = (z.dtype, z.device)
        if key not in self._copies:
            self._copies[key] = self._matrix.to(z.device, z.dtype)
        return self._copies[key]


def _outer(rows: Sequence[Tensor], product: Tensor) -> Tensor:
    """product ⊗ row ⊗ row … in the last dimension."""
    for row in rows:
        product = (product.unsqueeze(-1) * row.unsqueeze(-2)).flatten(-2)
    return product


def _contract(table: Tensor, z: Tensor, keep: tuple[int, ...]) -> Tensor:
    """Σ over all dimensions of the table but `keep`, row e of z weighing dimension e.

    table: [..., K, …, K] with or without z's leading dimensions; z: [..., E, K].
    """
    dimensions = list(range(z.shape[-2]))
    operands: list[Tensor | list[object]] = [table, [..., *dimensions]]
    for e in dimensions:
        if e not in keep:
            operands += [z[..., e, :], [..., e]]
    found: Tensor = torch.einsum(*operands, [..., *keep])
    return found.expand(*z.shape[:-2], *found.shape[len(found.shape) - len(keep) :])
