"""What stopping rules do to a search that is recorded in a run folder: end it, or act and go on.

A rule is asked after every epoch. What actions did so far stands in the checkpoints, so a resumed search goes
on as if it had not been stopped. E choices × K candidates.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from archgrad.architecture import Architecture
from archgrad.choice import Group, Supernet
from archgrad.config_layers import merge
from archgrad.errors import ConfigError, UserError
from archgrad.metric_lines import epoch_of, learned, number
from archgrad.randomness import Streams
from archgrad.runs import Run
from archgrad.search import SearchTask, search
from archgrad.search_records import EpochRecord, StepRecord
from archgrad.search_state import SearchPlan, SearchState
from archgrad.stopping.actions import Levers
from archgrad.stopping.guard import Firing, Guard
from archgrad.verbs.contents import load_network, named_logits, read_logits, write_tensors
from archgrad.verbs.select import LINES as SELECTED

ENDED = "stopped.json"
"""`epoch`, `rules`, `because`, `rolled_back_to`: of a search that a rule ended."""
ACTED = "actions.jsonl"
"""A line an action: `epoch`, `rules`, `because`, `action`, `did`, `rolled_back_to` (or null), `given_up`."""
GIVEN_UP = "given_up.jsonl"
"""The lines of the epochs that roll-backs gave up, as they stood in ``metrics.jsonl``."""
_ROLL_BACK = "rollback"
_LOGITS = "logits"


@dataclass
class Steering:
    """The rules of one run and what they did.

    own_plan: as configured; plan: as the actions have it. acted: lines of `ACTED`. ended: content of `ENDED`.
    """

    run: Run
    guard: Guard
    own_plan: SearchPlan
    network: Supernet
    state: SearchState
    say: Callable[[str], None]
    levers: Levers = field(init=False)
    plan: SearchPlan = field(init=False)
    acted: list[dict[str, Any]] = field(default_factory=list)
    ended: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        optimizer = self.state.weight_optimizer
        self.levers = Levers(optimizer.param_groups[0]["weight_decay"] if optimizer else 0.0)
        self.plan = self.own_plan

    def check_fits(self, groups: Sequence[Group]) -> None:
        """Refuse rules that can never fire in a space with these choices.

        Raises:
            UserError: naming them.
        """
        cells = Architecture({name: "" for group in groups for name in group.names}).cells()
        if problems := self.guard.unfit(list(cells)):
            raise ConfigError(problems)

    def document(self) -> dict[str, Any]:
        """What a checkpoint holds of it: nothing where there are no rules and nothing was done."""
        if not self.guard and not self.acted:
            return {}
        return {"steering": {"levers": dataclasses.asdict(self.levers), "acted": list(self.acted)}}

    def restore(self, saved: dict[str, Any] | None, lines: Sequence[dict[str, Any]]) -> None:
        """Go on from a checkpoint: what was done, and whether the search is at an end that a rule gave it."""
        if saved is not None:
            self.levers, self.acted = Levers(**saved["levers"]), list(saved["acted"])
            self._pull()
        self.settle()
        firing = self.guard.end(lines) if self.state.step == 0 else None
        if firing is not None:
            self._end(firing, epoch_of(lines[-1]))
        elif self.run.exists(ENDED):
            if self.state.epoch > len(lines) or self.run.exists(SELECTED):
                raise UserError(
                    f"{self.run.folder}: the selection after the stopped search has begun, and goes by its "
                    "logits and weights, so the search cannot go on; start a new run"
                )
            self.run.delete(ENDED)
            self.run.delete("logits.safetensors")  # there when a search is finished

    def follow(self, task: SearchTask, streams: Streams) -> Iterator[StepRecord | EpochRecord]:
        """`search`, begun anew from the state whenever the plan was changed."""
        done = False
        while not done:
            plan, done = self.plan, True
            for record in search(task, self.state, plan, streams):
                yield record
                if self.plan is not plan:
                    done = False
                    break

    def extra(self, epoch: int) -> dict[str, float]:
        """What a line of the metrics has besides: the time that was given up just before this epoch."""
        last = self.acted[-1] if self.acted else None
        if last is None or not last["given_up"] or last["rolled_back_to"] != epoch - 1:
            return {}
        return {"given_up_seconds": last["given_up_seconds"]}

    def after_epoch(self, lines: list[dict[str, Any]], best: float) -> tuple[float, bool]:
        """Ask the rules after the epoch of the last line, and do what they say.

        lines: all lines so far; those that are given up are taken off.
        best: validation accuracy of the best epoch so far.

        Returns:
            (the best from now on, whether something was done: a checkpoint is due, and then `settle`).
        """
        if not self.guard:
            return best, False
        before = len(self.acted)
        epoch = epoch_of(lines[-1])
        write_tensors(self.run, _logits_of(epoch), named_logits(self.state.logits))
        self._keep(best)
        for firing in self.guard(lines):
            if firing.action.ends:
                self._end(firing, epoch)
                continue
            moved = firing.action(self.levers)
            if moved is None:
                self.run.log(
                    f"{_named(firing.rules)}: {firing.reason.because}; there is no more to {firing.name}"
                )
                continue
            self.levers = moved.levers
            done = self._done(firing, epoch, moved.text)
            if firing.action.restarts:
                best = self._begin_again(firing.reason.epoch, lines, done)
            elif firing.action.takes_logits:
                self._take_logits(firing.reason.epoch)
                done["rolled_back_to"] = firing.reason.epoch
            self.acted.append(done)
            self._pull()
            text = f"{_named(firing.rules)}: {firing.reason.because}; {moved.text}"
            back = done["rolled_back_to"]
            self._tell(text if back in (None, epoch) else f"{text}; back to the end of epoch {back}")
            if not firing.action.restarts:
                self._keep(best)  # what was done at the end of this epoch is not undone by going back to it
        return best, len(self.acted) > before

    def settle(self) -> None:
        """Make the files of what was done agree with the newest checkpoint, and drop what was given up."""
        if self.acted or self.run.exists(ACTED):
            self.run.write_lines(ACTED, self.acted)
        given_up = sum(done["given_up"] for done in self.acted)
        if self.run.exists(GIVEN_UP):
            self.run.write_lines(GIVEN_UP, self.run.read_lines(GIVEN_UP)[:given_up])
        for later in (n for n in _numbers(self.run, f"{_LOGITS}/epoch-*") if n >= self.state.epoch):
            self.run.delete(_logits_of(later))
        self.run.cut_lines("metrics.jsonl", self.state.epoch)

    def finish(self) -> None:
        """At the end of the search: the logits of the epoch that the last rule goes back to, and why."""
        self.run.delete(f"{_ROLL_BACK}/*")
        if self.ended is None:
            return
        self._take_logits(self.ended["rolled_back_to"])
        self.run.write_json(ENDED, self.ended)
        self._tell(ended_text(self.ended))

    def _tell(self, text: str) -> None:
        self.run.log(text)
        self.say(text)

    def _end(self, firing: Firing, epoch: int) -> None:
        self.ended = {
            "epoch": epoch,
            "rules": list(firing.rules),
            "because": firing.reason.because,
            "rolled_back_to": firing.reason.epoch,
        }
        self.plan = replace(self.plan, epochs=epoch + 1)

    def _done(self, firing: Firing, epoch: int, text: str) -> dict[str, Any]:
        return {
            "epoch": epoch,
            "rules": list(firing.rules),
            "because": firing.reason.because,
            "action": firing.name,
            "did": text,
            "rolled_back_to": None,
            "given_up": 0,
            "given_up_seconds": 0.0,
        }

    def _pull(self) -> None:
        """Put the levers where they belong: the weights' optimizer, and the plan."""
        levers, own = self.levers, self.own_plan
        for group in self.state.weight_optimizer.param_groups if self.state.weight_optimizer else ():
            group["weight_decay"] = levers.weight_decay
        self.plan = replace(
            own,
            temperature=lambda epoch: own.temperature(epoch) * levers.tau,
            hypergradient=None if levers.frozen else own.hypergradient,
        )

    def _keep(self, best: float) -> None:
        """Save what an action needs that begins again from the end of this epoch, where there is one."""
        if self.guard.restarts:
            saved = {
                "network": self.network.state_dict(),
                "search": self.state.state_dict(),
                "best": best,
                "levers": dataclasses.asdict(self.levers),
            }
            self.run.save_checkpoint(self.state.epoch, saved, _ROLL_BACK, kept=self.guard.reach + 2)

    def _begin_again(self, epoch: int, lines: list[dict[str, Any]], done: dict[str, Any]) -> float:
        """Weights, optimizers and logits as at the end of an epoch; the lines after it are given up."""
        kept = sorted(_numbers(self.run, f"{_ROLL_BACK}/step-*.pt"))
        back = next((n for n in kept if n > epoch), kept[-1])  # the epoch itself, unless it is kept no more
        for later in (n for n in kept if n > back):
            self.run.delete(f"{_ROLL_BACK}/step-{later:08d}.*")
        saved, warnings = self.run.load_checkpoint(_ROLL_BACK)
        for warning in warnings:
            self._tell(f"warning: {warning}")
        if saved is None:
            raise UserError(f"{self.run.path(_ROLL_BACK)} has no checkpoint to go back to")
        load_network(self.network, saved["network"], "the checkpoint to go back to")
        self.state.load_state_dict(saved["search"])
        self.levers = replace(Levers(**saved["levers"]), weight_decay=self.levers.weight_decay)
        left = self.state.epoch
        best = float(saved["best"])
        given_up, lines[:] = lines[left:], lines[:left]
        for line in given_up:
            self.run.append(GIVEN_UP, line)
        done["rolled_back_to"], done["given_up"] = left - 1, len(given_up)
        done["given_up_seconds"] = sum(
            number(line.get(key)) or 0.0 for line in given_up for key in ("seconds", "given_up_seconds")
        )
        self._restore_best(lines)
        return best

    def _restore_best(self, lines: Sequence[dict[str, Any]]) -> None:
        """The best epoch's files, where the best was among those given up."""
        if not self.run.exists("best.json") or self.run.read_json("best.json")["epoch"] < len(lines):
            return
        known = [line for line in lines if learned(line) and number(line.get("valid_accuracy")) is not None]
        if not known:
            self.run.delete("best.*")
            return
        line = max(known, key=lambda one: float(one["valid_accuracy"]))
        logits = read_logits(self.run, _logits_of(epoch_of(line)))
        write_tensors(self.run, "best.safetensors", named_logits(logits))
        keys = ("epoch", "valid_accuracy", "architecture")
        self.run.write_json("best.json", {key: line[key] for key in keys})

    def _take_logits(self, epoch: int) -> None:
        """Put the logits of an epoch into the state."""
        kept = sorted(_numbers(self.run, f"{_LOGITS}/epoch-*.safetensors"))
        if epoch + 1 == self.state.epoch or not kept:
            return
        name = _logits_of(next((n for n in kept if n >= epoch), kept[-1]))
        with torch.no_grad():
            for logits, saved in zip(self.state.logits, read_logits(self.run, name), strict=True):
                logits.copy_(saved)


def with_combination(
    before: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """(the run's configuration, what was given): ``stopping.combine`` moved from the second to the first.

    It is the one key that may change when a run is resumed, so that its rules can be switched off.

    >>> with_combination({"stopping": {"combine": "any"}}, {"stopping": {"combine": "none"}})
    ({'stopping': {'combine': 'none'}}, {})
    """
    stopping = given.get("stopping")
    if "stopping" not in before or not isinstance(stopping, Mapping) or "combine" not in stopping:
        return dict(before), dict(given)
    rest = {key: value for key, value in stopping.items() if key != "combine"}
    left = {**given, "stopping": rest} if rest else {k: v for k, v in given.items() if k != "stopping"}
    return merge(before, {"stopping": {"combine": stopping["combine"]}}), left


def final_epoch(run: Run) -> int:
    """The epoch whose logits are the final ones: the last, or that which a rule went back to."""
    if not run.exists(ENDED):
        return len(run.read_lines("metrics.jsonl")) - 1
    document = run.read_json(ENDED)
    with run.reading(ENDED):
        return int(document["rolled_back_to"])


def ended_text(ended: dict[str, Any]) -> str:
    """Why a rule ended a search and which logits count, in one sentence."""
    back, epoch = ended["rolled_back_to"], ended["epoch"]
    logits = "its logits count" if back == epoch else f"the logits of epoch {back} count"
    return f"stopped after epoch {epoch} by {_named(ended['rules'])}: {ended['because']}; {logits}"


def _named(rules: Sequence[str]) -> str:
    return f"the rule{'s' * (len(rules) > 1)} {' and '.join(rules)}"


def _logits_of(epoch: int) -> str:
    return f"{_LOGITS}/epoch-{epoch}.safetensors"


def _numbers(run: Run, pattern: str) -> list[int]:
    """The numbers in the names of the files that match."""
    found = (re.search(r"-(\d+)\.", path.name) for path in run.folder.glob(pattern))
    return [int(match[1]) for match in found if match]
