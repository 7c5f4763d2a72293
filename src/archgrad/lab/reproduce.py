"""The command that repeats a laboratory's studies."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

_LISTS = ("methods", "samplers", "hypergradients", "schedules")
_NUMBERS = ("seeds", "steps", "draws", "seed", "step_noise")


def command(settings: Mapping[str, Any]) -> str:
    """``archgrad lab …`` with what differs from its defaults; settings: those of `studies.LabSettings`.

    >>> command({"samplers": ["reinmax", "rebar(x=5)"], "seeds": 64, "noise": {"name": "correlated"}})
    "archgrad lab --samplers 'reinmax,rebar(x=5)' --seeds 64 noise.name=correlated"
    """
    from archgrad.lab.studies import LabSettings

    usual: dict[str, Any] = {f.name: f.default for f in dataclasses.fields(LabSettings)}
    words = ["archgrad", "lab"]

    def option(name: str, text: str) -> None:
        words.extend([f"--{name}", text])

    if settings.get("landscape", usual["landscape"]) != usual["landscape"]:
        option("landscape", str(settings["landscape"]))
    for name in _LISTS:
        if settings.get(name):
            option(name, ",".join(settings[name]))
    studies = settings.get("studies", usual["studies"])
    if list(studies) != list(usual["studies"]):
        option("study", ",".join(studies))
    for name in _NUMBERS:
        if settings.get(name, usual[name]) != usual[name]:
            option(name.replace("_", "-"), f"{settings[name]}")
    if settings.get("observe", usual["observe"]) != usual["observe"]:
        option("observe", str(settings["observe"]))
    words += pairs("landscape.", settings.get("landscape_settings") or {})
    words += pairs("noise.", settings.get("noise") or {})
    words += pairs("", settings.get("overrides") or {})
    return " ".join(map(shlex.quote, words))


def pairs(prefix: str, values: Mapping[str, Any]) -> Iterable[str]:
    """``section.key=value`` for every value of nested settings, as a command line takes them."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from pairs(f"{prefix}{key}.", value)
        else:
            text = yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True)
            yield f"{prefix}{key}={text.removesuffix('...' + chr(10)).strip()}"
