"""A law that every entry of a table keeps, and the report of its being broken."""

from __future__ import annotations

import torch
from torch import Tensor


class BrokenLaw(AssertionError):
    """A part breaks a law of its family.

    law: the law's name, the first line of the message. detail: the numbers, which follow.
    """

    def __init__(self, law: str, detail: str) -> None:
        self.law, self.detail = law, detail
        super().__init__(f"law broken: {law}\n  {detail}")


def require(holds: bool, law: str, detail: str) -> None:
    """Raise `BrokenLaw` unless `holds`."""
    if not holds:
        raise BrokenLaw(law, detail)


def require_close(law: str, got: Tensor, wanted: Tensor, tolerance: float, where: str) -> None:
    """Raise `BrokenLaw` unless shapes agree and |got − wanted| ≤ tolerance·max(1, max|wanted|) everywhere."""
    require(
        got.shape == wanted.shape, law, f"{where}: shape {tuple(got.shape)}, wanted {tuple(wanted.shape)}"
    )
    if got.numel() == 0:
        return
    got, wanted = got.detach().double(), wanted.detach().double()
    difference = float((got - wanted).abs().max())
    largest = max(1.0, float(wanted.abs().max()))
    require(
        difference <= tolerance * largest,  # also false for NaN
        law,
        f"{where}: differs by up to {difference:.3e}, allowed {tolerance * largest:.1e}; "
        f"got {_few(got)}, wanted {_few(wanted)}",
    )


def require_identical(law: str, got: Tensor | None, wanted: Tensor | None, where: str) -> None:
    """Raise `BrokenLaw` unless the two are equal bit for bit, NaN included, or both None."""
    if got is None or wanted is None:
        require(got is wanted, law, f"{where}: one is None, the other is not")
        return
    same = got.shape == wanted.shape and got.dtype == wanted.dtype
    if same and not torch.equal(got, wanted):
        same = bool(((got == wanted) | ((got != got) & (wanted != wanted))).all())
    require(same, law, f"{where}: got {_few(got)}, wanted {_few(wanted)}")


def _few(tensor: Tensor, count: int = 4) -> str:
    """The first numbers of a tensor."""
    values = [f"{x:.6g}" for x in tensor.detach().double().flatten()[:count].tolist()]
    return "[" + ", ".join(values) + (", …]" if tensor.numel() > count else "]")
