"""From a space to the terms of its cost: which part of a network is there under which decisions.

The supernet is built and run once. A part of it that stands in no candidate is always there; one in a
candidate is there when that is chosen; one in a candidate of a choice inside a candidate, when both are; one
that several candidates share (the blocks of a depth), when any of them is. That is enough unless a choice
changes what is built around it, as a width does: the supernet has the widest layer only. The supernet is then
built once for every decision of such choices, the others staying mixed.

Terms are believed once they agree with the count of derived networks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE
from archgrad.choice import Blend, Choice, Group, Pick, Supernet, concrete, supernet
from archgrad.costs.counting import Cost, own_parameters
from archgrad.errors import UserError

Where = tuple[tuple[str, frozenset[str]], ...]
"""Decisions that must all hold: choice -> one of these candidates; outer choices first."""
Home = tuple[tuple[str, str], ...]
"""The candidates, from the outermost in, that were being built when a module was made."""

JOINT = 64
"""How many supernets are built at most, for choices that change what is built around them."""


class Term(NamedTuple):
    """A cost that is there where every decision of `where` holds."""

    value: float
    where: Where

    def holds(self, architecture: Mapping[str, str]) -> bool:
        """Whether an architecture has this part."""
        return all(architecture[name] in candidates for name, candidates in self.where)


class Terms(NamedTuple):
    """The cost of every architecture: the sum of the terms that hold.

    groups: all choices of the space in which something is chosen.
    """

    groups: tuple[Group, ...]
    terms: tuple[Term, ...]
    uncounted: tuple[str, ...]

    def of(self, architecture: Mapping[str, str]) -> float:
        """The cost of an architecture that names all choices."""
        return sum(term.value for term in self.terms if term.holds(architecture))


def find_terms(
    name: str,
    cost: Cost,
    builder: Callable[..., nn.Module],
    shape: tuple[int, ...],
    classes: int,
    settings: Mapping[str, Any],
) -> Terms:
    """The terms of a cost; `name` is what messages call it, the rest as for `cost_table.cost_table`.

    Raises:
        UserError: no terms agree with the count of derived networks.
    """
    work = _Work(cost, lambda pick: builder(pick, shape, classes, **settings), shape)
    terms, summed = work.terms({})
    plain = all(len(w) < 2 and all(len(k) == 1 for _, k in w) for _, w in terms.terms)
    checks = list(_architectures(terms.groups, thorough=not plain))
    wrong = None if summed else "candidates share parameters"
    wrong = wrong or work.disagreement(terms, checks)
    if wrong is None:
        return terms
    checks = list(_architectures(terms.groups, thorough=True))
    for sharp in _suspects(terms.groups, work.without_parameters):
        found = work.jointly(terms.groups, sharp)
        if found is not None and work.disagreement(found, checks) is None:
            return found
    raise UserError(
        f"cost {name!r} is no sum over the choices of this space, nested ones included: {wrong}. Do "
        "candidates share modules or parameters and run them again, or do many choices change what is built "
        "around them? Build new modules in each candidate, or choose another cost"
    )


class _Work:
    """Builds and counts networks of one space; `without_parameters`: choices whose candidates have none."""

    def __init__(self, cost: Cost, space: Callable[..., nn.Module], shape: tuple[int, ...]):
        self.cost, self.space, self.shape = cost, space, shape
        self.counted: dict[Architecture, float] = {}
        self.without_parameters: frozenset[str] = frozenset()

    def terms(self, chosen: Mapping[str, str]) -> tuple[Terms, bool]:
        """Terms of the supernet with these choices decided, and whether they add up to its cost."""
        made, uncounted, whole = self._parts(chosen)
        total = sum(value for _, _, value in made)
        return (
            Terms(whole.groups, tuple(_merged((v, w) for w, _, v in made)), uncounted),
            math.isclose(whole.cost, total, rel_tol=1e-9, abs_tol=1e-9),
        )

    def disagreement(self, terms: Terms, checks: Sequence[Architecture]) -> str | None:
        """What is wrong with the terms by the count of derived networks."""
        for architecture in checks:
            if architecture not in self.counted:
                build = partial(concrete, self.space, architecture)
                run = self.cost.run(build, self.shape)
                self.counted[architecture] = self.cost.count(run.network.modules(), run).value
            found, counted = terms.of(architecture), self.counted[architecture]
            if math.isclose(found, counted, rel_tol=1e-9, abs_tol=1e-9):
                continue
            if not self.cost.bound or found < counted:
                return (
                    f"a network costs {counted:,.0f} {self.cost.unit} and its parts, one by one, {found:,.0f}"
                )
        return None

    def jointly(self, groups: Sequence[Group], sharp: frozenset[str]) -> Terms | None:
        """Terms with the choices of `sharp` decided before the supernet is built; None: too many to do so."""
        candidates = {name: group.candidates for group in groups for name in group.names}
        near = self._near(sharp, candidates)
        products = [list(itertools.product(*(candidates[name] for name in part))) for part in near]
        builds = max(map(len, products), default=0)
        if not 0 < builds <= JOINT:
            return None
        found: dict[tuple[Where, Home, Where], float] = {}
        uncounted: set[str] = set()
        for i in range(builds):
            decided: dict[str, str] = {}
            for part, product in zip(near, products, strict=True):
                decided |= dict(zip(part, product[i % len(product)], strict=True))
            made, missed, whole = self._parts(decided)
            uncounted |= set(missed)
            for where, home, value in made:
                inside = [name for at in _around(home) for name in sorted(whole.decided_at.get(at, ()))]
                also = tuple((name, frozenset({decided[name]})) for name in dict.fromkeys(inside))
                found[where, home, also] = value
        merged = _merged((value, (*where, *also)) for (where, _, also), value in found.items())
        return Terms(tuple(groups), tuple(merged), tuple(sorted(uncounted)))

    def _near(self, sharp: frozenset[str], candidates: Mapping[str, Sequence[str]]) -> list[tuple[str, ...]]:
        """The choices of `sharp` in sets: those that are decided where the same parts are built."""
        _, _, whole = self._parts({name: candidates[name][0] for name in sharp})
        sets: list[set[str]] = []
        for home in whole.decided_at:
            mine = {name for at in _around(home) for name in whole.decided_at.get(at, ())}
            joined = [one for one in sets if one & mine]
            sets = [one for one in sets if not one & mine] + [mine.union(*joined)]
        return [tuple(sorted(one)) for one in sets]

    def _parts(
        self, chosen: Mapping[str, str]
    ) -> tuple[list[tuple[Where, Home, float]], tuple[str, ...], _Built]:
        """(decisions, home, cost) of the supernet's parts, what is not counted, and how it was built."""
        built = _Built(self.space, chosen)
        run = self.cost.run(built.build, self.shape)
        parts: dict[tuple[Where, Home], list[nn.Module]] = {}
        for module, ways in _ways(run.network).items():
            for where in _union(ways):
                parts.setdefault((where, built.homes.get(module, ())), []).append(module)
        counts = {key: self.cost.count(modules, run) for key, modules in parts.items()}
        built.cost = self.cost.count(run.network.modules(), run).value
        if isinstance(run.network, Supernet):
            built.groups = tuple(group for group in run.network.groups if group.chosen)
            bare: dict[str, bool] = {}
            for choice in run.network.choices():
                owned = any(own_parameters(m) for m in choice.options.modules())
                bare[choice.name] = bare.get(choice.name, True) and not owned
            if not chosen:
                self.without_parameters = frozenset(name for name, is_bare in bare.items() if is_bare)
        uncounted = {name for count in counts.values() for name in count.uncounted}
        return [(w, h, counts[w, h].value) for w, h in parts], tuple(sorted(uncounted)), built


class _Built:
    """One supernet in the making, some of its choices decided; notes where everything was built.

    homes: of each module the candidates that were being built.
    decided_at: of each home the choices that were decided there.
    """

    def __init__(self, space: Callable[..., nn.Module], chosen: Mapping[str, str]):
        self.space, self.chosen = space, chosen
        self.stack: list[tuple[str, str]] = []
        self.homes: dict[nn.Module, Home] = {}
        self.decided_at: dict[Home, set[str]] = {}
        self.groups: tuple[Group, ...] = ()
        self.cost = 0.0

    def build(self) -> nn.Module:
        """The supernet; the network itself where nothing is left to be mixed."""
        self.stack.clear()
        self.homes.clear()
        mixed = [False]

        def space(pick: Pick) -> nn.Module:
            def picks(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
                if name in self.chosen:
                    self.decided_at.setdefault(tuple(self.stack), set()).add(name)
                    return options[self.chosen[name]]()
                mixed[0] = mixed[0] or not isinstance(options, Blend)
                noted = copy(options) if isinstance(options, dict) else dict(options)
                for candidate, make in options.items():
                    noted[candidate] = partial(self._candidate, name, candidate, make)
                return pick(name, noted)

            return self.space(picks)

        try:
            return supernet(space)
        except UserError:
            if mixed[0] or not self.chosen:
                raise
            return concrete(self.space, Architecture(self.chosen))

    def _candidate(self, name: str, candidate: str, make: Callable[[], nn.Module]) -> nn.Module:
        self.stack.append((name, candidate))
        try:
            module = make()
        finally:
            home = tuple(self.stack)
            self.stack.pop()
        for inner in module.modules():
            self.homes.setdefault(inner, home)
        return module


def _around(home: Home) -> list[Home]:
    """The home itself and those around it, outermost first."""
    return [home[:n] for n in range(len(home) + 1)]


def _suspects(groups: Sequence[Group], bare: frozenset[str]) -> Iterator[frozenset[str]]:
    """Choices that may change what is built around them: those whose candidates have no parameters."""
    sets = [
        frozenset(name for name in group.names if name in bare) for group in groups if group.kind == "choice"
    ]
    sets = [one for one in sets if one]
    yield from sets
    if len(sets) > 1:
        yield frozenset().union(*sets)


def _ways(network: nn.Module) -> dict[nn.Module, list[Where]]:
    """Every module of a supernet, and the decisions under each of which it is there."""
    found: dict[nn.Module, list[Where]] = {}

    def visit(module: nn.Module, where: dict[str, frozenset[str]]) -> None:
        here: Where = tuple(where.items())
        ways = found.setdefault(module, [])
        if here in ways:
            return
        ways.append(here)
        for child in module.children():
            if not (isinstance(module, Choice) and child is module.options):
                visit(child, where)
        if not isinstance(module, Choice):
            return
        blend = module.name in blends
        for candidate, option in zip(module.candidates, module.options, strict=True):
            allowed = where.get(module.name, frozenset({candidate})) & {candidate}
            if blend:
                visit(option, where)
            elif allowed:
                visit(option, {**where, module.name: allowed})

    groups = network.groups if isinstance(network, Supernet) else ()
    blends = {name for group in groups if not group.chosen for name in group.names}
    visit(network, {})
    return found


def _union(ways: Sequence[Where]) -> list[Where]:
    """Decisions of which at most one holds, together those that make a module be there.

    Ways that differ in one choice's candidates are one. What is left over is the module being in several
    places for several reasons: it is billed for each of them, and the count of networks has to agree.
    """
    merged = [dict(way) for way in ways]
    again = True
    while again:
        again = False
        for a, b in itertools.permutations(merged, 2):
            differing = [name for name in a.keys() | b.keys() if a.get(name) != b.get(name)]
            if len(differing) <= 1 and a.keys() == b.keys():
                for name in differing:
                    a[name] |= b[name]
            elif not all(name in b and b[name] <= a[name] for name in a):
                continue  # b is not within a
            merged.remove(b)
            again = True
            break
    return [tuple(way.items()) for way in merged]


def _merged(made: Iterable[tuple[float, Where]]) -> list[Term]:
    """One term for all that are there under the same decisions; none for what costs nothing."""
    total: dict[Where, float] = {}
    for value, where in made:
        total[where] = total.get(where, 0.0) + value
    return [Term(value, where) for where, value in total.items() if value]


def _architectures(groups: Sequence[Group], thorough: bool) -> Iterator[Architecture]:
    """Architectures to check terms with: two that differ in every choice; thorough: all candidates, mixed."""
    rows = [(name, group) for group in groups for name in group.names]
    most = max(len(group.candidates) for group in groups)
    patterns: list[Callable[[int, int], int]] = [lambda i, e: i + e]
    if thorough:
        patterns += [lambda i, e: i, lambda i, e: i + e * (e + 1) // 2]
    for pattern in patterns:
        for i in range(most + 1 if thorough else 2):
            yield Architecture(
                {name: _candidate(group, pattern(i, e)) for e, (name, group) in enumerate(rows)}
            )


def _candidate(group: Group, k: int) -> str:
    all_of_them = (*group.candidates, NONE) if group.kind == "droppable" else group.candidates
    return all_of_them[k % len(all_of_them)]
