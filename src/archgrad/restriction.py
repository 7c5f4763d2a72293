"""A space with some candidates left out of some choices, and which to leave out after a stage of a search.

A restricted space is a builder like any other. Progressive searches (P-DARTS, arXiv 1904.12760, section 3.2;
DrNAS, arXiv 2006.10355, section 4) are searches of one space after another, each with fewer candidates.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn

from archgrad.architecture_warnings import NONE
from archgrad.choice import Blend, Droppable, Group, Pick, all_choices
from archgrad.errors import UserError
from archgrad.table import nearest


def restricted(
    space: Callable[..., nn.Module], kept: Mapping[str, Sequence[str]]
) -> Callable[..., nn.Module]:
    """The space with the candidates `kept` of the choices that they name, and all others as they are.

    A choice that loses its candidate `none` may still be left out by a rule (see `choice.Droppable`).

    Args:
        space: a builder ``(pick, shape, classes, …)``.
        kept: choice -> candidates. The name of a choice may be a pattern such as ``normal/*``; of several
            that fit, the first counts.

    Raises:
        UserError: when built, a candidate that the choice does not have, or none left.
    """
    if not kept:
        return space

    @functools.wraps(space)
    def build(pick: Pick, *arguments: Any, **settings: Any) -> nn.Module:
        def picks(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
            wanted = next((c for pattern, c in kept.items() if fnmatchcase(name, pattern)), None)
            if wanted is None or isinstance(options, Blend):
                return pick(name, options)
            if unknown := [c for c in wanted if c not in options]:
                raise UserError(
                    f"restrict: choice {name!r} has no candidate {unknown[0]!r}"
                    f"{nearest(unknown[0], options)}; it has {', '.join(options)}"
                )
            if not wanted:
                raise UserError(f"restrict: choice {name!r} is left without a candidate; keep one at least")
            left = {c: built for c, built in options.items() if c in wanted}
            if isinstance(options, Droppable):
                return pick(name, Droppable(left, options.dropped))
            if NONE in options and NONE not in left:
                return pick(name, Droppable(left, options[NONE]))
            return pick(name, left)

        return space(picks, *arguments, **settings)

    return build


def check_names(
    space: Callable[..., nn.Module], kept: Mapping[str, Sequence[str]], *args: Any, **settings: Any
) -> None:
    """Refuse names and patterns of choices that the space does not make; `args` and `settings` build it.

    Raises:
        UserError: naming them.
    """
    names = all_choices(space, *args, **settings) if kept else set()
    if lost := [pattern for pattern in kept if not any(fnmatchcase(name, pattern) for name in names)]:
        raise UserError(
            f"restrict: the space makes no choice {lost[0]!r}{nearest(lost[0], names)}; it makes "
            f"{', '.join(sorted(names)[:8])}{', …' if len(names) > 8 else ''}"
        )


def strongest(
    groups: Sequence[Group], probabilities: Sequence[Tensor], keep: int | float
) -> dict[str, list[str]]:
    """The candidates that each choice keeps after a stage: the most probable ones, of equal ones the first.

    Args:
        groups: the choices; of a blend nothing is left out.
        probabilities: [E, K] per group.
        keep: how many, or the share of them (0.6 of 7 are 4).

    Returns:
        choice -> candidates, in the order of the space.

    Raises:
        UserError: a share that is none, or fewer than one.

    >>> import torch
    >>> edges = Group(("none", "skip", "conv"), ("1<-0", "2<-0"))
    >>> strongest([edges], [torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]])], 2)
    {'1<-0': ['skip', 'conv'], '2<-0': ['none', 'skip']}
    """
    if isinstance(keep, bool) or not (keep >= 1 if isinstance(keep, int) else 0 < keep < 1):
        raise UserError(f"keep is a number of candidates from 1, or a share between 0 and 1; got {keep!r}")
    kept: dict[str, list[str]] = {}
    for group, p in zip(groups, probabilities, strict=True):
        if not group.chosen:
            continue
        count = len(group.candidates)
        count = min(count, keep if isinstance(keep, int) else max(1, round(keep * count)))
        order = p.detach().double().cpu().argsort(dim=-1, descending=True, stable=True)[:, :count]
        for name, row in zip(group.names, order.sort(dim=-1).values.tolist(), strict=True):
            kept[name] = [group.candidates[k] for k in row]
    return kept
