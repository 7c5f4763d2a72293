"""Choices inside candidates of others: which there are, and how to build every combination once.

A candidate with a choice in it, as a mobile block with a width, is another module for each decision of that
choice, so each is measured; the cost of the outer and the inner choices together is a
`archgrad.costs.nested.Nested`. Combinations of different outer choices do not multiply: one supernet has one
combination of each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from torch import nn

from archgrad.architecture import Architecture
from archgrad.choice import Choice, Group, Pick, Supernet
from archgrad.errors import UserError

MOST = 64
"""Combinations of a candidate's choices that are measured at most."""

Inner = Mapping[tuple[str, str], tuple[str, ...]]
"""(choice, candidate) -> the choices inside it, outer ones first; for those that have any."""


def deciding(builder: Callable[..., nn.Module], decided: Mapping[str, str]) -> Callable[..., nn.Module]:
    """The builder of the same space with some of its choices decided."""

    def build(pick: Pick, *args: object, **settings: object) -> nn.Module:
        def picks(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
            return options[decided[name]]() if name in decided else pick(name, options)

        return builder(picks, *args, **settings)

    return build


def outermost(network: Supernet) -> list[Choice]:
    """The choices that stand in no candidate of another, blends passed through."""
    blends = blend_names(network)

    def visit(module: nn.Module) -> Iterator[Choice]:
        if isinstance(module, Choice) and module.name not in blends:
            yield module
            return
        for child in module.children():
            yield from visit(child)

    return list(dict.fromkeys(visit(network.network)))


def inner_choices(network: Supernet) -> Inner:
    """The choices inside each candidate of the outermost ones.

    Raises:
        UserError: a choice stands inside a candidate and also outside of all, or inside and may be left out.
    """
    outer, blends = outermost(network), blend_names(network)
    droppable = {name for group in network.groups if group.kind == "droppable" for name in group.names}
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for choice in outer:
        for candidate, option in zip(choice.candidates, choice.options, strict=True):
            inside = [m.name for m in option.modules() if isinstance(m, Choice) and m.name not in blends]
            names = (*found.get((choice.name, candidate), ()), *inside)
            if names:
                found[choice.name, candidate] = tuple(dict.fromkeys(names))
    inner = {name for names in found.values() for name in names}
    if both := sorted(inner & {choice.name for choice in outer}):
        raise UserError(
            f"choice {both[0]!r} stands inside a candidate of another choice and outside of all: its latency "
            "cannot be told apart; give the inner one another name"
        )
    if left_out := sorted(inner & droppable):
        raise UserError(
            f"choice {left_out[0]!r} stands inside a candidate of another choice and may be left out: what "
            "is left of that candidate then cannot be put into a table; make `none` one of its candidates"
        )
    return found


def decisions(groups: Sequence[Group], inner: Inner) -> list[dict[str, str]]:
    """Decisions of all inner choices, so many that every combination of each candidate's is among them.

    Raises:
        UserError: more than `MOST` combinations that hang together.
    """
    candidates = {name: group.candidates for group in groups for name in group.names}
    sets: list[dict[str, None]] = []  # ordered
    for (choice, _), names in inner.items():
        mine = dict.fromkeys(names)
        for one in [one for one in sets if one.keys() & mine.keys()]:
            sets.remove(one)
            mine = one | mine
        if (combinations := math.prod(len(candidates[name]) for name in mine)) > MOST:
            raise UserError(
                f"inside choice {choice!r} stand choices of {combinations:,} combinations "
                f"({', '.join(mine)}), and each would have to be measured; at most {MOST} are. Give them "
                "fewer candidates, or make some of them choices of their own"
            )
        sets.append(mine)
    products = [list(itertools.product(*(candidates[name] for name in one))) for one in sets]
    return [
        {
            name: candidate
            for names, product in zip(sets, products, strict=True)
            for name, candidate in zip(names, product[i % len(product)], strict=True)
        }
        for i in range(max(map(len, products), default=1))
    ]


def check_parts(network: Supernet, architecture: Architecture, built: nn.Module) -> None:
    """The parts of a supernet that an architecture takes are those that its own network is built of.

    Args:
        network: a supernet whose inner choices are decided as in `architecture`.
        architecture: one of the space.
        built: its network.

    Raises:
        UserError: they have not as many parameters, so a choice changes what is built around it.
    """
    blends, taken = blend_names(network), set[nn.Parameter]()

    def visit(module: nn.Module) -> None:
        taken.update(module.parameters(recurse=False))
        if isinstance(module, Choice) and module.name not in blends:
            visit(module.options[module.candidates.index(architecture[module.name])])
            return
        for child in module.children():
            visit(child)

    visit(network.network)
    parts, whole = sum(p.numel() for p in taken), sum(p.numel() for p in built.parameters())
    if parts != whole:
        raise UserError(
            f"the latency of this space is no sum over its choices: a network has {whole:,} parameters, and "
            f"the candidates of the supernet with what is around them {parts:,}; so a choice changes what is "
            "built around it, as a width outside all candidates does: put these layers into its candidates"
        )


def blend_names(network: Supernet) -> set[str]:
    """The choices of which nothing is chosen."""
    return {name for group in network.groups if not group.chosen for name in group.names}
