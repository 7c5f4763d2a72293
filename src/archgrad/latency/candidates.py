"""What there is to measure in a space: every distinct candidate where it stands, and what is around them.

A piece is a module and the shapes of its inputs. Two pieces are the same when their modules are built alike
(types, settings, parameters' shapes) and get inputs of the same shape; such a piece is measured once and
counted in each of its places. B C H W throughout; shapes in a manifest are without B.
"""

from __future__ import annotations

import hashlib
import types
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.architecture_warnings import NONE
from archgrad.choice import Choice, Group, Sample, Supernet, concrete, supernet
from archgrad.errors import UserError
from archgrad.latency.device_script import EMPTY, MANIFEST_FORMAT, VERSION, digest
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

    def supernet(self) -> Supernet:
        """All candidates, in evaluation mode."""
        with seeded_modules(0):
            return supernet(self.builder, self.shape, self.classes, **self.settings).eval()

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
    What a space computes itself between its modules (sums, concatenations) is in no piece; comparing
    whole networks with the table tells how much that is (see `validation`).

    Args:
        target: the space.
        batch: images at once, for the manifest.
        precision: "fp32" or "bf16", likewise.
        architectures: to be measured whole.

    Raises:
        UserError: a choice stands inside a candidate of another choice, or a candidate gets no tensors.
    """
    network = target.supernet()
    options = _options(network)
    seen = _watch(network, network.network.modules(), target.shape)

    pieces: dict[str, dict[str, Any]] = {}
    known: dict[str, str] = {}
    modules: dict[str, nn.Module] = {}
    uncounted: set[str] = set()

    def keys(module: nn.Module, what: str, idle: bool, place: str) -> Counter[str]:
        """The pieces that the calls of a module are, each with their number."""
        found: Counter[str] = Counter()
        for call in seen.get(module, ()):
            if call.inputs is None:
                uncounted.add(f"{place} (its inputs are no tensors)")
                continue
            signature = _signature(module, call, place)
            if signature not in known:
                shape = "+".join("x".join(map(str, s)) for s in call.inputs)
                known[signature] = key = f"{what}/{shape}/{signature}"
                pieces[key] = {
                    "what": f"{what} on {shape}",
                    "inputs": [list(s) for s in call.inputs],
                    "idle": idle or call.handed_on,
                    "handed_on": call.handed_on,
                }
                modules[key] = module
            found[known[signature]] += 1
        return found

    places: dict[tuple[str, str], Counter[str]] = {}
    for choice, candidate, module in options:
        name = f"{candidate} of choice {choice}"
        found = keys(module, candidate, candidate == NONE, name)
        if not found:
            raise UserError(f"{name} cannot be measured: in evaluation it is not called with tensors alone")
        places.setdefault((choice, candidate), Counter()).update(found)
    fixed: Counter[str] = Counter()
    for path, module in _around(network.network, "", seen):
        if not all(call.handed_on for call in seen[module]):  # drop path, which evaluation leaves out
            fixed.update(keys(module, path, False, path))
    groups = [
        {
            "candidates": list(group.candidates),
            "names": list(group.names),
            "kind": group.kind,
            "entries": [[dict(places[name, k]) for k in group.candidates] for name in group.names],
        }
        for group in network.groups
        if group.chosen
    ]
    space = {**target.document(), "digest": digest([groups, fixed])}
    manifest = {
        "format": MANIFEST_FORMAT,
        "version": VERSION,
        "space": space,
        "batch": batch,
        "precision": precision,
        "groups": groups,
        "fixed": dict(fixed),
        "uncounted": sorted(uncounted),
        "pieces": pieces,
        EMPTY: None,
        "whole": [{"architecture": dict(a)} for a in architectures],
    }
    return Found(manifest, modules, network.groups)


def _options(network: Supernet) -> list[tuple[str, str, nn.Module]]:
    """(choice, candidate, module) of every candidate in the network, blends left out."""
    found = []
    for choice in network.choices():
        if not any(choice.name in group.names and group.chosen for group in network.groups):
            continue
        for candidate, option in zip(choice.candidates, choice.options, strict=True):
            inner = next((m for m in option.modules() if isinstance(m, Choice)), None)
            if inner is not None:
                raise UserError(
                    f"choice {inner.name!r} stands inside candidate {candidate!r} of choice {choice.name!r}: "
                    "the latency of nested choices is no sum; make them one choice whose candidates are the "
                    "combinations"
                )
            found.append((choice.name, candidate, option))
    return found


def _around(
    module: nn.Module, path: str, seen: Mapping[nn.Module, list[_Seen]]
) -> list[tuple[str, nn.Module]]:
    """The largest modules without a choice in them that take and give tensors, with their paths."""
    if isinstance(module, Choice):
        return []
    alone = path and not any(isinstance(m, Choice) for m in module.modules())
    children = list(module.named_children())
    calls = seen.get(module)
    if alone and calls is not None and (all(call.inputs for call in calls) or not children):
        return [(path, module)]
    return [
        found
        for name, child in children
        for found in _around(child, f"{path}.{name}" if path else name, seen)
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
