"""What there is to measure in a space: every distinct candidate where it stands, and what is around them.

A piece is a module and the shapes of its inputs. Two pieces are the same when their modules are built alike
(types, settings, parameters' shapes) and get inputs of the same shape; such a piece is measured once and
counted in each of its places. B C H W throughout; shapes in a manifest are without B.
"""

from __future__ import annotations

import hashlib
import types
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE
from archgrad.choice import Choice, Group, Sample, Supernet, concrete, supernet
from archgrad.errors import UserError
from archgrad.latency.device_script import EMPTY, MANIFEST_FORMAT, VERSION, digest
from archgrad.latency.nested import blend_names, check_parts, deciding, decisions, inner_choices, outermost
from archgrad.randomness import seeded_modules
from archgrad.spaces import SPACES
from archgrad.spaces.space import Shape, as_space

_BY_TORCH = frozenset(nn.Module().__dict__)  # attributes that every module has


@dataclass(frozen=True, eq=False)
class Target:
    """Networks of a space as they are trained.

    space: its name. builder: ``(pick, shape, classes, **settings)``.
    shape: (C, H, W) of an image. classes: number of classes.
    settings: all settings of the builder, by name.
    """

    space: str
    builder: Callable[..., nn.Module]
    shape: Shape
    classes: int
    settings: Mapping[str, Any]

    @classmethod
    def of(
        cls, space: str, shape: Shape, classes: int = 10, settings: Mapping[str, Any] | None = None
    ) -> Target:
        """A space by name, with settings over those that its networks are trained with.

        Raises:
            UserError: no such space or setting, the space reads texts, or the shape is none of an image.
        """
        part = as_space(SPACES[space])
        if part.reads == "text":
            raise UserError(f"the space {space} reads texts; latency is measured of networks on images")
        given = dict(settings or {})
        if unknown := part.unknown_settings(given):
            raise UserError(f"the space {space} has no setting {unknown[0]}")
        if len(shape) != 3 or min(shape) < 1 or classes < 1:
            raise UserError(f"wanted an image (C, H, W) and a number of classes, got {shape} and {classes}")
        defaults = {name: p.default for name, p in part.settings().items() if p.default is not p.empty}
        return cls(space, part.builder, shape, classes, {**defaults, **part.train, **given})

    def document(self) -> dict[str, Any]:
        """As a table keeps it: plain values."""
        return {
            "name": self.space,
            "settings": {key: plain(value) for key, value in sorted(self.settings.items())},
            "shape": list(self.shape),
            "classes": self.classes,
        }

    def supernet(self, decided: Mapping[str, str] | None = None) -> Supernet:
        """All candidates but those of choices that are decided, in evaluation mode."""
        with seeded_modules(0):
            builder = deciding(self.builder, decided or {})
            return supernet(builder, self.shape, self.classes, **self.settings).eval()

    def network(self, architecture: Architecture) -> nn.Module:
        """One architecture's network, in evaluation mode."""
        with seeded_modules(0):
            return concrete(self.builder, architecture, self.shape, self.classes, **self.settings).eval()


def plain(value: Any) -> Any:
    """A setting as JSON would give it back."""
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return value if isinstance(value, str | int | float | bool | None) else str(value)


class Found(NamedTuple):
    """What was found in a space.

    manifest: what to measure, as plain values (see `device_script.table_of`); a table has most of it.
    modules: of each piece, in evaluation mode.
    groups: the supernet's, blends too.
    """

    manifest: dict[str, Any]
    modules: dict[str, nn.Module]
    groups: tuple[Group, ...]


class _Seen(NamedTuple):
    inputs: tuple[tuple[int, ...], ...] | None  # None: something else than tensors was passed
    output: tuple[int, ...]
    handed_on: bool


def find(
    target: Target,
    batch: int = 1,
    precision: str = "fp32",
    architectures: Sequence[Architecture] = (),
) -> Found:
    """List the pieces of a space by passing one image through its supernet.

    Around the candidates each largest module without a choice in it is a piece: stem, reductions, head.
    A candidate with choices inside it is a piece for every combination of theirs (see `nested`).
    What a space computes itself between its modules (sums, concatenations) is in no piece; comparing
    whole networks with the table tells how much that is (see `validation`).

    Args:
        target: the space.
        batch: images at once, for the manifest.
        precision: "fp32" or "bf16", likewise.
        architectures: to be measured whole.

    Raises:
        UserError: a candidate gets no tensors, or `nested` refuses the space.
    """
    network = target.supernet()
    stock = _Stock()
    groups = tuple(group for group in network.groups if group.chosen)
    inner = inner_choices(network)
    for k in (0, -1):
        extreme = Architecture({name: group.candidates[k] for group in groups for name in group.names})
        chosen = {name: extreme[name] for names in inner.values() for name in names}
        check_parts(target.supernet(chosen) if chosen else network, extreme, target.network(extreme))
    places: dict[tuple[str, str], Counter[str]] = {}
    joint: dict[tuple[str, ...], dict[tuple[str, ...], Counter[str]]] = {}
    for decided in decisions(groups, inner):
        partly = target.supernet(decided) if decided else network
        seen = _watch(partly, partly.network.modules(), target.shape)
        taken: dict[tuple[str, ...], Counter[str]] = {}
        for choice in outermost(partly):
            for candidate, module in zip(choice.candidates, choice.options, strict=True):
                inside = inner.get((choice.name, candidate), ())
                with_it = [decided[name] for name in inside]
                name = f"{candidate} of choice {choice.name}"
                what = f"{candidate}({','.join(with_it)})" if inside else candidate
                found = stock.keys(seen, module, what, candidate == NONE, name)
                if not found:
                    raise UserError(
                        f"{name} cannot be measured: in evaluation it is not called with tensors alone"
                    )
                taken.setdefault((choice.name, candidate, *with_it), Counter()).update(found)
        for (choice_name, candidate, *with_it), found in taken.items():
            inside = inner.get((choice_name, candidate), ())
            if inside:
                joint.setdefault((choice_name, *inside), {})[candidate, *with_it] = found
            else:
                places[choice_name, candidate] = found
    seen = _watch(network, network.network.modules(), target.shape)
    fixed: Counter[str] = Counter()
    for path, module in _around(network.network, "", seen, blend_names(network)):
        if not all(call.handed_on for call in seen[module]):  # drop path, which evaluation leaves out
            fixed.update(stock.keys(seen, module, path, False, path))
    rows = [
        {
            "candidates": list(group.candidates),
            "names": list(group.names),
            "kind": group.kind,
            "entries": [[dict(places.get((n, k), {})) for k in group.candidates] for n in group.names],
        }
        for group in groups
    ]
    nested = [
        {"names": list(names), "cells": [{"at": list(at), "pieces": dict(c)} for at, c in cells.items()]}
        for names, cells in joint.items()
    ]
    space = {**target.document(), "digest": digest([rows, fixed, *([nested] if nested else [])])}
    manifest = {
        "format": MANIFEST_FORMAT,
        "version": VERSION,
        "space": space,
        "batch": batch,
        "precision": precision,
        "groups": rows,
        "nested": nested,
        "fixed": dict(fixed),
        "uncounted": sorted(stock.uncounted),
        "pieces": stock.pieces,
        EMPTY: None,
        "whole": [{"architecture": dict(a)} for a in architectures],
    }
    return Found(manifest, stock.modules, network.groups)


class _Stock:
    """The pieces found so far: each is kept once, whatever the networks and places it is met in."""

    def __init__(self) -> None:
        self.pieces: dict[str, dict[str, Any]] = {}
        self.modules: dict[str, nn.Module] = {}
        self.uncounted: set[str] = set()
        self.known: dict[str, str] = {}

    def keys(
        self, seen: Mapping[nn.Module, list[_Seen]], module: nn.Module, what: str, idle: bool, place: str
    ) -> Counter[str]:
        """The pieces that the calls of a module are, each with their number."""
        found: Counter[str] = Counter()
        for call in seen.get(module, ()):
            if call.inputs is None:
                self.uncounted.add(f"{place} (its inputs are no tensors)")
                continue
            signature = _signature(module, call, place)
            if signature not in self.known:
                shape = "+".join("x".join(map(str, s)) for s in call.inputs)
                self.known[signature] = key = f"{what}/{shape}/{signature}"
                self.pieces[key] = {
                    "what": f"{what} on {shape}",
                    "inputs": [list(s) for s in call.inputs],
                    "idle": idle or call.handed_on,
                    "handed_on": call.handed_on,
                }
                self.modules[key] = module
            found[self.known[signature]] += 1
        return found


def _around(
    module: nn.Module, path: str, seen: Mapping[nn.Module, list[_Seen]], blends: Collection[str]
) -> list[tuple[str, nn.Module]]:
    """The largest modules without a choice in them that take and give tensors, with their paths."""
    if isinstance(module, Choice) and module.name not in blends:
        return []
    alone = path and not any(isinstance(m, Choice) for m in module.modules())
    children = list(module.named_children())
    calls = seen.get(module)
    if alone and calls is not None and (all(call.inputs for call in calls) or not children):
        return [(path, module)]
    return [
        found
        for name, child in children
        for found in _around(child, f"{path}.{name}" if path else name, seen, blends)
    ]


def _watch(network: Supernet, modules: Iterable[nn.Module], shape: Shape) -> dict[nn.Module, list[_Seen]]:
    """The calls of some modules while one image passes through, all candidates active."""
    seen: dict[nn.Module, list[_Seen]] = {}

    def note(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> None:
        tensors = not named and all(isinstance(x, Tensor) for x in inputs) and isinstance(output, Tensor)
        seen.setdefault(module, []).append(
            _Seen(
                tuple(tuple(x.shape[1:]) for x in inputs) if tensors else None,
                tuple(output.shape[1:]) if tensors else (),
                any(output is x for x in inputs),
            )
        )

    hooks = [m.register_forward_hook(note, with_kwargs=True) for m in dict.fromkeys(modules)]
    try:
        with torch.no_grad():
            samples = [
                Sample(torch.full((len(g.names), len(g.candidates)), 1 / len(g.candidates)))
                for g in network.groups
            ]
            network(torch.zeros(1, *shape), samples)
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _signature(module: nn.Module, call: _Seen, place: str) -> str:
    """A number that equal modules on inputs of equal shapes have in common, and others do not."""
    lines = [str((call.inputs, call.output))]
    for path, part in module.named_modules():
        settings = {k: v for k, v in part.__dict__.items() if k not in _BY_TORCH}
        tensors = [
            (n, tuple(t.shape))
            for n, t in (*part._parameters.items(), *part._buffers.items())
            if t is not None
        ]
        described = {key: _described(value, place) for key, value in settings.items()}
        lines.append(f"{path} {type(part).__module__}.{type(part).__qualname__} {described} {tensors}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:8]


def _described(value: object, place: str) -> str:
    """A module's setting in words; what cannot be compared makes the module one of its own."""
    if isinstance(value, str | int | float | bool | None | torch.dtype):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"({', '.join(_described(item, place) for item in value)})"
    if isinstance(value, dict):
        return str({str(key): _described(item, place) for key, item in value.items()})
    if isinstance(value, types.FunctionType | type) and not getattr(value, "__closure__", None):
        return f"{value.__module__}.{value.__qualname__}"
    return f"{type(value).__qualname__} in {place}"
