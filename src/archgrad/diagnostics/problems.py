"""Probes that do not go with a search."""

from __future__ import annotations

from archgrad.config import Config
from archgrad.diagnostics import PROBES


def probe_problems(config: Config) -> list[str]:
    """One sentence for every probe that cannot look at such a search, with the reason."""
    if not config.learns:
        why = f"the method {config.method!r} does not train the logits, so there is nothing to look at"
        return [f"diagnostics.{name}: {why}; leave it out" for name in config.probes]
    problems = []
    for name, (_, settings) in config.probes.items():
        unfit = getattr(PROBES[name], "unfit", None)
        if unfit is not None and (why := unfit(config, settings)):
            problems.append(f"diagnostics.{name}: {why}")
    return problems
