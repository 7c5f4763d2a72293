"""Which probes look at a search, and when. Names and settings are those of the configuration."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from archgrad.config import Config
from archgrad.diagnostics import PROBES, record_diagnostics
from archgrad.diagnostics.subject import Probe, Subject, untouched


@dataclass
class Watch:
    """The diagnostics of one search.

    probes: name -> (epochs from one look to the next, the probe). Of `every` epochs the last is looked at,
    and the very last epoch in any case; none while the logits are not yet trained (warm-up).
    failed: probes that could not be taken, each with the reason; they are not tried again. told: how many of
    them `news` has told.
    """

    probes: Mapping[str, tuple[int, Probe]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    told: int = 0

    @classmethod
    def of(cls, config: Config) -> Watch:
        """Those of a configuration that was found right."""
        return cls({name: (every, PROBES[name](**rest)) for name, (every, rest) in config.probes.items()})

    def complete(
        self, line: Mapping[str, Any], before: Sequence[Mapping[str, Any]], subject: Subject
    ) -> dict[str, Any]:
        """The line of ``metrics.jsonl`` with its ``diagnostics``; what probes took is part of its seconds."""
        found, started = record_diagnostics(line, before), time.perf_counter()
        due = self.due(subject)
        for name in due:
            reading = self._look(name, subject)
            found |= {name: reading} if reading else {}
        took = time.perf_counter() - started if due else 0.0
        return {**line, "seconds": line["seconds"] + took, "diagnostics": found}

    def due(self, subject: Subject) -> list[str]:
        """Names of the probes that look at this epoch."""
        epoch, plan = subject.epoch, subject.plan
        if not plan.learns(epoch):
            return []
        last = epoch + 1 == plan.epochs
        return [
            name
            for name, (every, _) in self.probes.items()
            if name not in self.failed and (last or (epoch + 1) % every == 0)
        ]

    def _look(self, name: str, subject: Subject) -> Mapping[str, Any]:
        try:
            with untouched(subject):
                return self.probes[name][1](subject)
        except RuntimeError as error:  # too little memory, an operation without second derivatives
            self.failed[name] = (str(error) or type(error).__name__).splitlines()[0]
            return {}

    def news(self) -> list[str]:
        """A sentence for every probe that failed since the last call."""
        fresh = list(self.failed.items())[self.told :]
        self.told = len(self.failed)
        return [
            f"the diagnostic {name!r} could not be taken and is left out from now on: {why}"
            for name, why in fresh
        ]
