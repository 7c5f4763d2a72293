"""What a finished or running search is about to become, from the files of its run folder alone.

Numbers first (`doctor_run`), then a text for a person (`text`). Nothing is changed, nothing is loaded but
text files, so it can look at a search that another process is running.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from archgrad.alarms.alarm import About, alarms_of, raised
from archgrad.config import Config
from archgrad.config_problems import check
from archgrad.errors import UserError
from archgrad.metric_lines import Line, by_name, complete, epoch_of, learned, number, reading
from archgrad.report.points import control_points
from archgrad.report.quantities import duration, percent
from archgrad.report.reading import RunRecord, read_run
from archgrad.report.verdict import compare, verdict
from archgrad.stopping import STOPPING_RULES
from archgrad.stopping.guard import Guard, rule_of
from archgrad.stopping.rule import Rule
from archgrad.stopping.settings import Stopping

DECIDED, OPEN = 0.3, 0.9
"""Shares of the largest entropy: below the first the choices are decided, above the second hardly begun."""
NEAR_TIE = 0.02
"""Margin between two probabilities below which a choice might as well have fallen the other way."""
_PATIENCE = 60.0
"""Seconds without a new line, or three epochs if that is longer, after which a search is taken for dead."""


def doctor_run(folder: Path | str) -> dict[str, Any]:
    """State, convergence, alarms, what rules say, and whether the derived network can be trusted.

    Returns:
        `state` and `says`; `epochs`, `planned`; `converged` {`yes` (None while nothing is known), `entropy`
        (share of the largest), `effective` (candidates), `unchanged` (epochs), `says`}; `alarms`, see
        `alarms.alarm.Raised`; `rules` {name: {`configured`, `epoch`, `rolled_back_to`, `says`}}; `stopped`,
        `actions`; `trust` {`doubts`, `says`}; `warnings`; `next`, commands.

    Raises:
        UserError: `folder` holds no run.
    """
    run = read_run(Path(folder))
    lines, warnings = complete([row.model_dump() for row in run.epochs]), list(run.warnings)
    config = _config(run, warnings)
    about = _about(run, config)
    rung = raised(alarms_of(config.alarms if config else {}), lines, about)
    state = _state(run, Path(folder))
    return {
        "run": str(folder),
        "state": state,
        "says": _state_says(state, run, lines),
        "epochs": len(lines),
        "planned": run.planned_epochs,
        "converged": _converged(lines),
        "alarms": [one._asdict() for one in rung],
        "rules": _rules(config, lines),
        "stopped": run.stopped.model_dump() if run.stopped else None,
        "actions": [act.model_dump() for act in run.actions],
        "trust": _trust(run, lines),
        "warnings": warnings,
        "next": _next(state, run, str(folder)),
    }


def text(document: Mapping[str, Any]) -> str:
    """The same for a person."""
    lines = [f"{document['run']}: {document['says']}", *(f"warning: {w}" for w in document["warnings"])]
    if document["state"] == "genotype":
        return "\n".join(lines)
    for act in document["actions"]:
        lines.append(f"  epoch {act['epoch']}, {' and '.join(act['rules'])}: {act['because']}; {act['did']}")
    lines += ["", "Has it converged?", f"  {document['converged']['says']}", "", "What is wrong?"]
    for one in document["alarms"]:
        last = f" to {one['last']}" if one["last"] != one["epoch"] else ""
        lines += [f"  {one['name']}, epoch {one['epoch']}{last}: {one['text']}", f"    → {one['remedy']}"]
    if not document["alarms"]:
        lines.append("  No alarm rang.")
    own = any(rule["configured"] for rule in document["rules"].values())
    lines += ["", "What do the stopping rules say?" + ("" if own else " None is set; at their defaults:")]
    lines += [f"  {name}: {rule['says']}" for name, rule in document["rules"].items()]
    lines += ["", "Can the derived network be trusted?"]
    lines += [f"  {doubt}" for doubt in document["trust"]["doubts"]]
    lines.append(f"  {document['trust']['says']}")
    return "\n".join([*lines, "", *(f"next: {command}" for command in document["next"])])


def _config(run: RunRecord, warnings: list[str]) -> Config | None:
    """The configuration, or None with a warning: thresholds are then the defaults."""
    if run.genotype is not None or not run.config:
        return None
    try:
        return check(run.config)
    except UserError as error:
        first = str(error).splitlines()[1 if len(str(error).splitlines()) > 1 else 0].strip(" -")
        warnings.append(f"config.yaml is not right ({first}): rules and alarms are at their defaults")
    except Exception as error:  # whatever a module of the user's own provokes
        warnings.append(f"config.yaml cannot be used ({type(error).__name__}: {error}): defaults instead")
    return None


def _about(run: RunRecord, config: Config | None) -> About:
    found = run.data.get("classes")
    classes = len(found) if isinstance(found, list) and found else None
    return About(run.planned_epochs, 0, classes) if config is None else About.of(config, classes)


def _state(run: RunRecord, folder: Path) -> str:
    """genotype, stopped, finished, failed, interrupted, empty, running or silent."""
    if run.genotype is not None:
        return "genotype"
    if run.finished:
        return "stopped" if run.stopped is not None else "finished"
    last = _last_event(folder)
    if last in ("failed", "interrupted"):
        return last
    seconds = [row.seconds or 0.0 for row in run.epochs[-3:]]
    if _age(folder) <= max(_PATIENCE, sum(seconds)):
        return "running" if run.epochs else "empty"
    return "silent" if run.epochs else "empty"


def _last_event(folder: Path) -> str:
    """What the last line of the log that says so says."""
    try:
        log = (folder / "log.txt").read_bytes().decode(errors="replace").splitlines()
    except OSError:
        return ""
    for line in reversed(log):
        said = line[20:]  # after date and time
        for start, event in (("failed", "failed"), ("stopped by SIG", "interrupted"), ("resumed", "resumed")):
            if said.startswith(start):
                return event
    return ""


def _age(folder: Path) -> float:
    """Seconds since the search last wrote something; infinite where it never did."""
    times = []
    for name in ("metrics.jsonl", "log.txt", "checkpoints"):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return time.time() - max(times) if times else math.inf


def _state_says(state: str, run: RunRecord, lines: Sequence[Line]) -> str:
    planned = f" of {run.planned_epochs}" if run.planned_epochs else ""
    done = f"{len(lines)}{planned} epochs"
    taken = sum(number(line.get("seconds")) or 0.0 for line in lines)
    if state == "stopped":
        assert run.stopped is not None
        stop = run.stopped
        back = (
            "" if stop.rolled_back_to == stop.epoch else f"; the logits of epoch {stop.rolled_back_to} count"
        )
        named = " and ".join(stop.rules)
        return f"ended after {done} in {duration(taken)} by the rule {named}: {stop.because}{back}"
    return {
        "genotype": f"trains {run.genotype}; nothing was searched here, so there is nothing to diagnose",
        "finished": f"finished {done} in {duration(taken)}",
        "failed": f"failed after {done}; log.txt says why",
        "interrupted": f"interrupted after {done}",
        "empty": "no epoch is finished yet",
        "running": f"running, {done} in {duration(taken)}",
        "silent": f"not finished, {done}, and it has not written anything for long: it was probably killed",
    }[state]


def _converged(lines: Sequence[Line]) -> dict[str, Any]:
    known = [line for line in lines if learned(line)]
    if not known:
        says = "Nothing is known: no epoch has trained the logits yet."
        return {"yes": None, "entropy": None, "effective": None, "unchanged": None, "says": says}
    line = known[-1]
    entropy, effective = (reading(line, "entropy", key) for key in ("relative", "effective"))
    still = reading(line, "stability", "architecture_unchanged")
    wanted = max(3, math.ceil(len(known) / 10))
    decided = entropy is not None and entropy < DECIDED
    stable = still is not None and min(still, len(known) - 1) >= wanted
    parts = []
    if entropy is not None and effective is not None:
        leaning = "decided" if decided else "hardly decided" if entropy > OPEN else "partly decided"
        parts.append(
            f"The choices are {leaning}: their entropy is {percent(entropy, 0)} of its maximum, as of "
            f"{effective:.1f} equally probable candidates."
        )
    if still is not None:
        count = int(min(still, len(known) - 1))
        parts.append(
            f"What would be derived has been the same for {count} epoch{'s' * (count != 1)}"
            + ("." if stable else f"; {wanted} would be a sign of rest.")
        )
    yes = decided and stable if entropy is not None and still is not None else None
    verdict_ = "" if yes is None else "Yes. " if yes else "No. " if not (decided or stable) else "In part. "
    return {
        "yes": yes,
        "entropy": entropy,
        "effective": effective,
        "unchanged": None if still is None else int(still),
        "says": verdict_ + " ".join(parts),
    }


def _rules(config: Config | None, lines: Sequence[Line]) -> dict[str, dict[str, Any]]:
    """What every rule says that is configured, or every rule of the table at its defaults."""
    own = {} if config is None or config.stopping.combine == "none" else dict(config.stopping.rules)
    found = {}
    for name in own or [name for name in STOPPING_RULES if name != "time"]:
        rule = rule_of(name, own.get(name, {}))
        found[name] = {"configured": bool(own), **_first(rule, lines)}
    if len(own) > 1 and config is not None and config.stopping.combine == "all":
        guard = Guard.of(Stopping(rules=own, combine="all"), {})
        fired = next((f for n in range(1, len(lines) + 1) for f in guard(lines[:n])), None)
        for name in found:
            found[name]["says"] += "" if fired else "; not all of them fired together"
    return found


def _first(rule: Rule, lines: Sequence[Line]) -> dict[str, Any]:
    """Where the rule first fires, and what it says then."""
    needs = getattr(rule, "needs", {})
    for count in range(1, len(lines) + 1):
        reason = rule(lines[:count])
        if reason is not None:
            epoch = epoch_of(lines[count - 1])
            back = "" if reason.epoch == epoch else f", back to epoch {reason.epoch}"
            says = f"fires after epoch {epoch}{back}: {reason.because}"
            return {"epoch": epoch, "rolled_back_to": reason.epoch, "says": says}
    if lost := [name for name in needs if not any(name in line["diagnostics"] for line in lines)]:
        says = f"not known: {lost[0]} was not measured; search with diagnostics.{lost[0]}=1"
    else:
        says = "goes on"
    return {"epoch": None, "rolled_back_to": None, "says": says}


def _trust(run: RunRecord, lines: Sequence[Line]) -> dict[str, Any]:
    """What speaks against the network that is, or would be, derived; and what its controls say."""
    doubts: list[str] = []
    if not lines and run.derivation is None:
        return {"doubts": doubts, "says": "There is nothing to derive yet."}
    line: Line = lines[-1] if lines else {}
    choices = run.derivation.choices if run.derivation else ()
    margins = {c.name: c.margin for c in choices if c.kept and c.margin is not None}
    margins = margins or by_name(line, "margin", "by_choice")
    ties = [name for name, margin in margins.items() if margin < NEAR_TIE]
    if ties:
        shown = ", ".join(ties[:3]) + (", …" if len(ties) > 3 else "")
        doubts.append(
            f"{len(ties)} of {len(margins)} choices are near ties, with margins below {NEAR_TIE}: {shown}."
        )
    share = run.derivation.skip_share if run.derivation else reading(line, "operations", "skip")
    if share is not None and share > 1 / 2:
        doubts.append(f"Skip connections are {percent(share, 0)} of it.")
    looked = [one for one in lines if reading(one, "gap", "derived") is not None]
    if looked:
        mixture, derived = (reading(looked[-1], "gap", key) for key in ("mixture", "derived"))
        if mixture is not None and derived is not None and derived < mixture:
            doubts.append(
                f"With shared weights it is right on {percent(derived)} of the validation part in epoch "
                f"{epoch_of(looked[-1])}, the mixture that was optimised on {percent(mixture)}."
            )
    comparison = compare(control_points(run))
    if comparison is None:
        says = "No controls are trained, so nothing is proven: compare it with random architectures."
        return {"doubts": doubts, "says": says if doubts else f"Nothing speaks against it. {says}"}
    return {"doubts": doubts, "says": verdict(run).sentences[0]}


def _next(state: str, run: RunRecord, folder: str) -> list[str]:
    if state in ("failed", "interrupted", "silent"):
        return [f"archgrad search --run {folder} --resume"]
    if state not in ("finished", "stopped"):
        return []
    commands = []
    if state == "stopped":
        commands.append(f"archgrad search --run {folder} --resume stopping.combine=none")
    if run.derivation is None:
        return [f"archgrad derive {folder}", *commands]
    if compare(control_points(run)) is None:
        return [f"archgrad train {folder} --controls 3", *commands]
    return [f"archgrad report {folder}", *commands]
