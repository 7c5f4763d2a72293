"""What the verbs read back from a run folder, checked; E choices × K candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.choice import Group
from archgrad.config import Config
from archgrad.config_layers import dotted, merge
from archgrad.config_problems import check
from archgrad.errors import ConfigError, UserError
from archgrad.language_parts import TextParts
from archgrad.parts import Parts
from archgrad.runs import Run


def read_config(run: Run, settings: Mapping[str, Any] | None = None) -> Config:
    """The resolved configuration of a run, with changes."""
    return check(merge(read_document(run), settings or {}))


def read_document(run: Run) -> dict[str, Any]:
    """The content of ``config.yaml``, which must be complete: a default in its place would be another run."""
    document = run.read_config()
    try:
        wanted = dotted(check(document).document())
    except ConfigError as error:
        raise UserError(f"{run.path('config.yaml')} is damaged: {error}") from None
    there = dotted(document)
    # data with test images of their own have no share to hold out
    if lost := [key for key in wanted if key not in there and key != "data.test"]:
        raise UserError(f"{run.path('config.yaml')} is damaged: it lacks {', '.join(lost)}")
    return document


def read_architecture(run: Run) -> Architecture:
    """The derived architecture."""
    if not run.exists("architecture.json"):
        raise UserError(f"{run.folder} has not derived an architecture yet: archgrad derive {run.folder}")
    with run.reading("architecture.json"):
        text = run.path("architecture.json").read_text(encoding="utf-8")
    try:
        return Architecture.from_json(text)
    except UserError as error:
        raise UserError(
            f"{run.path('architecture.json')} is damaged: {error}. Make it anew: archgrad derive {run.folder}"
        ) from None


def read_groups(run: Run) -> tuple[Group, ...]:
    """The choices that were searched."""
    document = run.read_json("choices.json")
    with run.reading("choices.json"):
        groups = tuple(
            Group(tuple(g["candidates"]), tuple(g["names"]), g.get("kind", "choice"))
            for g in document["groups"]
        )
        if not groups or not all(isinstance(text, str) for g in groups for text in (*g.candidates, *g.names)):
            raise ValueError("it names no choices")
        return groups


def read_tensors(run: Run, name: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file."""
    with run.reading(name):
        return load_tensors(run.path(name).read_bytes())


def write_tensors(run: Run, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file."""
    run.write_bytes(name, save_tensors({k: t.detach().cpu().contiguous() for k, t in tensors.items()}))


def read_logits(run: Run, name: str) -> list[Tensor]:
    """Logits [E, K] per group, as `named_logits` called them."""
    tensors = read_tensors(run, name)
    with run.reading(name):
        return [tensors[f"group{g}"] for g in range(len(tensors))]


def named_logits(logits: list[Tensor]) -> dict[str, Tensor]:
    """``{"group0": α [E, K], …}``."""
    return {f"group{g}": a.detach() for g, a in enumerate(logits)}


def load_network(network: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Put saved tensors into a network.

    Raises:
        UserError: they are those of another network.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        lines = str(error).splitlines()
        raise UserError(f"{source} does not fit the network: {' '.join(lines[1:2] or lines)}") from None


def check_same_data(run: Run, parts: Parts | TextParts) -> None:
    """The data are those that the run began with.

    Raises:
        UserError: name, shape, classes, numbers of images or the split differ.
    """
    before, now = run.read_json("data.json"), parts.description()
    if changed := [key for key in now if key not in ("mean", "std") and before.get(key) != now[key]]:
        raise UserError(
            f"the data differ from those of the run in {run.folder}: "
            + "; ".join(f"{key} was {before.get(key)}, is {now[key]}" for key in changed)
        )
