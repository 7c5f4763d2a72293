"""Probes that rules need are switched on."""

from __future__ import annotations

from archgrad.config import Config
from archgrad.stopping import STOPPING_RULES


def with_needs(config: Config) -> tuple[Config, list[str]]:
    """The configuration with every probe on that one of its rules needs, and a sentence for each new one."""
    if config.stopping.combine == "none":
        return config, []
    diagnostics, notes = dict(config.diagnostics), []
    for rule in config.stopping.rules:
        for probe, every in getattr(STOPPING_RULES[rule], "needs", {}).items():
            if not diagnostics.get(probe):
                diagnostics[probe] = every
                notes.append(f"diagnostics.{probe} = {every}: the stopping rule {rule!r} needs it")
    return config.model_copy(update={"diagnostics": diagnostics}) if notes else config, notes
