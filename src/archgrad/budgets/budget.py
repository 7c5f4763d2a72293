"""What a person writes as a budget: ``macs=60M±3%``, ``params=1M``, ``latency=2ms@phone.json``.

Without a tolerance it is a limit that must not be exceeded; with one the cost has to come within it, from
both sides. A range ``macs=20M..200M``, of targets ``macs=20M..200M±5%``, is for a sweep.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from archgrad.costs import COSTS
from archgrad.errors import UserError
from archgrad.table import nearest

Kind = Literal["count", "time", "bytes"]

_UNITS: dict[Kind, dict[str, float]] = {
    "count": {"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9},
    "time": {"us": 1e-3, "µs": 1e-3, "μs": 1e-3, "ms": 1.0, "s": 1e3},
    "bytes": {"B": 1.0, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9},
}
_SHOWN: dict[Kind, tuple[str, ...]] = {
    "count": ("k", "M", "G"),
    "time": ("us", "ms", "s"),
    "bytes": ("B", "kB", "MB", "GB"),
}
_BASE: dict[Kind, str] = {"count": "", "time": "ms", "bytes": "B"}
_ALIASES = {"params": "parameters", "mac": "macs", "time": "latency"}
_BYTES = ("traffic", "activation_memory", "file_size", "file_size_16", "file_size_8")
_NUMBER = r"(?P<value>\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|\.\d+)\s*(?P<unit>[^\W\d]*|%)"
_EXAMPLE = "write e.g. macs=60M, macs=60M±3% or latency=2ms"


@dataclass(frozen=True)
class Budget:
    """A cost and the interval that it has to be in.

    cost: its name. least: None for "at most". most, least: in the cost's base unit (a time in ms).
    table: a file of the cost of every candidate, where the cost is not counted but measured.

    >>> Budget.parse("macs=60M±3%")
    Budget(cost='macs', most=61800000.0, least=58200000.0, table=None)
    >>> print(Budget.parse("latency=2ms@phone.json"))
    latency ≤ 2 ms
    """

    cost: str
    most: float
    least: float | None = None
    table: str | None = None

    @classmethod
    def parse(cls, text: str) -> Budget:
        """From ``cost=value`` with a unit, ``±`` (or ``+-``) a tolerance in percent or in a unit.

        Raises:
            UserError: no such form, an unknown cost, a unit that is missing, unknown or of something else, a
                value that is not above 0, or a range.
        """
        cost, kind, rest, table = _split(text)
        if ".." in rest:
            raise UserError(
                f"budget {text!r}: a range is for a sweep (archgrad sweep --budget {text}); one search holds "
                f"one value: {_EXAMPLE}"
            )
        head, sign, tail = re.sub(r"\+/?-", "±", rest).partition("±")
        value = _quantity(text, head, kind)
        if not sign:
            return cls(cost, value, None, table)
        share = re.fullmatch(_NUMBER, tail.strip())
        if share is not None and share["unit"] == "%":
            tolerance = value * float(share["value"]) / 100
        else:
            tolerance = _quantity(text, tail, kind, "%")
        if not 0 < tolerance < value:
            raise UserError(
                f"budget {text!r}: a tolerance is above 0 and below the value; {_EXAMPLE}; for a limit from "
                "above alone leave it out"
            )
        return cls(cost, value + tolerance, value - tolerance, table)

    @property
    def target(self) -> float:
        """What the search aims at: the middle of the interval, or its upper end where it has no lower one."""
        return self.most if self.least is None else (self.least + self.most) / 2

    @property
    def kind(self) -> Kind:
        """What is measured: a count, a time in ms or bytes."""
        return _kind(self.cost) or "count"

    def excess(self, value: float) -> float:
        """How far a cost is outside, relative to the target: positive above, negative below, 0 inside."""
        if value > self.most:
            return (value - self.most) / self.target
        if self.least is not None and value < self.least:
            return (value - self.least) / self.target
        return 0.0

    def met(self, value: float) -> bool:
        """Whether a cost is inside. The last bits of a sum of floating-point numbers are forgiven."""
        return math.isfinite(value) and abs(self.excess(value)) <= 1e-9

    def written(self) -> tuple[str, str]:
        """(cost, value) as a configuration has them, to six digits.

        >>> Budget.parse("macs=60M±3%").written()
        ('macs', '60M±1.8M')
        """
        size, symbol = _unit(self.target, self.kind)
        text = f"{self.target / size:.6g}{symbol}"
        if self.least is not None:
            text += f"±{(self.most - self.target) / size:.6g}{symbol}"
        return self.cost, text if self.table is None else f"{text}@{self.table}"

    def show(self, value: float) -> str:
        """A cost in a unit that a person reads.

        >>> Budget.parse("params=1M").show(1_234_567)
        '1.235 M'
        """
        return quantity(value, self.kind)

    def __str__(self) -> str:
        """``macs ≤ 60 M``, or the interval."""
        if self.least is None:
            return f"{self.cost} ≤ {self.show(self.most)}"
        return f"{self.show(self.least)} ≤ {self.cost} ≤ {self.show(self.most)}"


class Range(NamedTuple):
    """What a sweep goes through: a cost from `least` to `most`, in its base unit.

    tolerance: share of each target that its cost may be off; None for limits from above.
    """

    cost: str
    least: float
    most: float
    table: str | None = None
    tolerance: float | None = None

    @classmethod
    def parse(cls, text: str) -> Range:
        """From ``cost=least..most``, both with units, and ``±`` (or ``+-``) a share of each target.

        >>> Range.parse("macs=20M..200M")
        Range(cost='macs', least=20000000.0, most=200000000.0, table=None, tolerance=None)
        >>> Range.parse("macs=20M..200M±5%").tolerance
        0.05

        Raises:
            UserError: as `Budget.parse`, or the ends are not in order.
        """
        cost, kind, rest, table = _split(text)
        rest, sign, share = re.sub(r"\+/?-", "±", rest).partition("±")
        low, dots, high = rest.partition("..")
        if not dots:
            raise UserError(f"sweep over {text!r}: give two ends, e.g. {cost}=20M..200M")
        least, most = _quantity(text, low, kind), _quantity(text, high, kind)
        if least >= most:
            raise UserError(f"sweep over {text!r}: the first end has to be below the second")
        tolerance = re.fullmatch(_NUMBER, share.strip()) if sign else None
        if sign and not (tolerance and tolerance["unit"] == "%" and 0 < float(tolerance["value"]) < 100):
            raise UserError(
                f"sweep over {text!r}: the tolerance of a range is a share of each target, above 0 and below "
                f"100 %, e.g. {cost}=20M..200M±5%"
            )
        return cls(cost, least, most, table, float(tolerance["value"]) / 100 if tolerance else None)

    def limits(self, points: int) -> list[Budget]:
        """`points` limits or targets from the least to the most, each the same factor above the one before.

        >>> [round(b.most / 1e6) for b in Range.parse("macs=20M..320M").limits(3)]
        [20, 80, 320]
        >>> print(Range.parse("macs=20M..320M±5%").limits(3)[1])
        76 M ≤ macs ≤ 84 M
        """
        if points < 2:
            raise UserError(f"a sweep needs two points or more, got {points}")
        factor, off = self.most / self.least, self.tolerance
        targets = [self.least * factor ** (i / (points - 1)) for i in range(points)]
        return [
            Budget(self.cost, target * (1 + (off or 0)), off and target * (1 - off), self.table)
            for target in targets
        ]


def quantity(value: float, kind: Kind) -> str:
    """A number of the base unit, in the unit in which it is 1 or more."""
    size, symbol = _unit(value, kind)
    if kind == "count" and abs(value) < size:
        size, symbol = 1.0, _BASE[kind]
    return f"{value / size:.4g} {symbol}".rstrip()


def _unit(value: float, kind: Kind) -> tuple[float, str]:
    """(size, symbol) of the largest unit that is not above the value; the smallest where all are."""
    units = [(_UNITS[kind][symbol], symbol) for symbol in _SHOWN[kind]]
    return [units[0], *(pair for pair in units if abs(value) >= pair[0])][-1]


def parse_all(texts: dict[str, str]) -> tuple[Budget, ...]:
    """Budgets from ``{cost: value}``, as a configuration has them.

    Raises:
        UserError: one of them is none, or two are for the same cost.
    """
    budgets = tuple(Budget.parse(f"{cost}={value}") for cost, value in texts.items())
    costs = [budget.cost for budget in budgets]
    if twice := next((cost for cost in costs if costs.count(cost) > 1), None):
        raise UserError(f"two budgets for {twice!r}: leave one of them out; for both ends write {twice}=…±…")
    return budgets


def as_setting(texts: tuple[str, ...]) -> dict[str, str]:
    """``("macs=60M", …)``, as on the command line, as the configuration's section ``budget``.

    >>> as_setting(("macs=60M±3%", "params=1M"))
    {'macs': '60M±3%', 'parameters': '1M'}
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"budget {text!r}: wanted cost=value; {_EXAMPLE}")
        cost = _ALIASES.get(name.strip(), name.strip())
        if cost in found:
            raise UserError(f"two budgets for {cost!r}: {found[cost]!r} and {value!r}; leave one of them out")
        found[cost] = value.strip()
    return found


def _split(text: str) -> tuple[str, Kind | None, str, str | None]:
    """(cost, what it measures or None where unknown, value, table)."""
    name, equals, rest = text.partition("=")
    cost = _ALIASES.get(name.strip(), name.strip())
    if not equals or not cost:
        raise UserError(f"budget {text!r}: wanted cost=value; {_EXAMPLE}")
    value, at, table = rest.strip().partition("@")
    kind = _kind(cost)
    if at and not table.strip():
        raise UserError(f"budget {text!r}: after @ comes the file with the cost of every candidate")
    if kind is None and ":" not in cost and not at:
        known = (*COSTS, "latency")
        raise UserError(
            f"budget {text!r}: unknown cost {cost!r}{nearest(cost, known)}; known: {', '.join(known)}, or "
            "'module:object'"
        )
    return cost, kind, value.strip(), table.strip() or None


def _kind(cost: str) -> Kind | None:
    """What a cost is measured in; None where its name does not say."""
    if cost in _BYTES:
        return "bytes"
    if cost.startswith("latency"):
        return "time"
    return "count" if cost in COSTS or cost.startswith(("params_", "flops_")) else None


def _quantity(text: str, written: str, kind: Kind | None, *besides: str) -> float:
    """A number with its unit, in the base unit."""
    match = re.fullmatch(_NUMBER, written.strip())
    if match is None:
        raise UserError(f"budget {text!r}: {written.strip()!r} is no number with a unit; {_EXAMPLE}")
    kinds: tuple[Kind, ...] = ("count", "time", "bytes") if kind is None else (kind,)
    units = {symbol: size for k in kinds for symbol, size in _UNITS[k].items()}
    known = ", ".join([*(symbol for k in kinds for symbol in _SHOWN[k]), *besides])
    if not match["unit"]:
        raise UserError(f"budget {text!r}: {written.strip()!r} has no unit; write one of {known} behind it")
    if match["unit"] not in units:
        raise UserError(f"budget {text!r}: unknown unit {match['unit']!r}; known here: {known}")
    value = float(match["value"]) * units[match["unit"]]
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"budget {text!r}: a budget is a finite number above 0, got {written.strip()!r}")
    return value
