"""The command that repeats an experiment, or goes on with it."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from archgrad.experiment.plan import Plan
from archgrad.lab.reproduce import pairs


def command(document: Mapping[str, Any]) -> str:
    """``archgrad experiment …`` with what differs from its defaults.

    >>> command({"plan": {"methods": ["darts", "gdas"], "landscape": "nasbench201", "steps": 100}})
    'archgrad experiment --landscape nasbench201 --methods darts,gdas --steps 100'
    """
    plan = document["plan"]
    usual = {f.name: f.default for f in dataclasses.fields(Plan)}
    words = ["archgrad", "experiment"]
    settings = dict(plan.get("settings") or {})
    if plan.get("landscape") is not None:
        words += ["--landscape", plan["landscape"]]
    words += ["--methods", ",".join(plan["methods"])]
    if plan.get("schedules"):
        words += ["--schedules", ",".join(plan["schedules"])]
    for name in ("seeds", "seed", "steps", "observe", "step_noise", "entropy", "within"):
        if plan.get(name, usual[name]) != usual[name]:
            words += [f"--{name.replace('_', '-')}", f"{plan[name]}"]
    if plan.get("train"):
        words.append("--train")
    if not plan.get("control", True):
        words.append("--no-control")
    words += pairs("landscape.", plan.get("landscape_settings") or {})
    words += pairs("noise.", plan.get("noise") or {})
    words += pairs("", settings)
    return " ".join(map(shlex.quote, words))
