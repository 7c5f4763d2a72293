"""What the numbers of a run say, in plain sentences: the verdict, and the warnings that go with it."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from archgrad import summary
from archgrad.report.points import (
    ControlPoints,
    TrainedNetwork,
    control_points,
    entropy_points,
    stability_points,
)
from archgrad.report.quantities import count, percent, points
from archgrad.report.reading import DerivationRecord, RunRecord

Level = Literal["good", "bad", "warning", "info"]
NEAR_UNIFORM = 0.9  # entropy above this share of ln K: the search has hardly decided anything
SIZE_ADVANTAGE = 1.25  # more parameters than this times the controls' mean: size may be the reason


class Callout(NamedTuple):
    """A sentence that must not be overlooked."""

    level: Level
    title: str
    text: str


class Verdict(NamedTuple):
    """One paragraph of sentences, and the callouts below it."""

    sentences: tuple[str, ...]
    callouts: tuple[Callout, ...]


def compare(controls: ControlPoints) -> summary.Comparison | None:
    """`summary.compare` of the tested networks; None until the derived one and a random one are tested."""
    derived = controls.derived.quality if controls.derived else None
    random = [n.quality for n in controls.random if n.quality is not None]
    others = [n.quality for n in controls.others if n.quality is not None]
    return None if derived is None or not random else summary.compare(derived, random, others)


def progress(run: RunRecord) -> Callout | None:
    """How far the search got, when it is not at its end; that there was none, when a genotype was given."""
    if run.genotype is not None:
        text = f"The cells are those of {run.genotype}. Nothing was searched here."
        return Callout("info", "No search", text)
    done, planned = len(run.epochs), run.planned_epochs
    of = f" of {planned}" if planned else ""
    if run.finished and run.stopped is not None:
        stop = run.stopped
        back = (
            "" if stop.rolled_back_to == stop.epoch else f" The logits of epoch {stop.rolled_back_to} count."
        )
        named = " and ".join(stop.rules)
        text = f"A rule ({named}) ended the search after {done}{of} epochs: {stop.because}.{back}"
        return Callout("info", "Stopped early", text)
    if run.finished and planned and done < planned:
        return Callout("info", "Stopped early", f"The search ended after {done}{of} epochs.")
    if run.finished or (planned and done >= planned):
        return None
    if not done:
        return Callout("info", "No epoch yet", "The search has not finished its first epoch.")
    text = f"Search running or interrupted: {done}{of} epochs. The page shows the run so far."
    return Callout("info", "Unfinished", text)


def _accuracy_sentence(controls: ControlPoints, origin: str) -> str:
    derived = controls.derived
    if derived is None or derived.test_accuracy is None:
        return "The derived network has not been trained and tested yet."
    if derived.test_perplexity is not None:
        return _perplexity_sentence(derived, controls)
    images = f" on {derived.test_images:,} test images" if derived.test_images else ""
    text = f"The derived network reaches {percent(derived.test_accuracy)} test accuracy{images}"
    size = f" with {count(derived.parameters)} parameters" if derived.parameters else ""
    tested = sum(1 for n in controls.random if n.test_accuracy is not None)
    if controls.mean is None:
        return (
            f"{text}{size}. No random control has been trained, so nothing says what the {origin} was worth."
        )
    spread = f"\u00a0±\u00a0{percent(controls.deviation)}" if controls.deviation is not None else ""
    return (
        f"{text}{size}; {tested} random architecture{'s' * (tested != 1)} from the same space, trained the "
        f"same way, reach{'es' * (tested == 1)} {percent(controls.mean)}{spread}."
    )


def _perplexity_sentence(derived: TrainedNetwork, controls: ControlPoints) -> str:
    size = f" with {count(derived.parameters)} parameters" if derived.parameters else ""
    text = (
        f"The derived network reaches a test perplexity of {derived.test_perplexity:.2f}{size} and gets "
        f"{percent(derived.test_accuracy)} of the words right"
    )
    known = [n for n in (*controls.random, *controls.others) if n.test_perplexity is not None]
    if not known:
        return f"{text}. No control has been trained, so nothing says what the search was worth."
    shown = ", ".join(f"{n.name} {n.test_perplexity:.2f}" for n in known)
    return f"{text}; trained the same way: {shown}."


def _perplexity_gap(difference: float) -> str:
    """A difference of log-likelihoods in nats, as a person reads it."""
    percentage = 100 * abs(1 - math.exp(-difference))
    return f"A perplexity {percentage:.1f}% {'below' if difference > 0 else 'above'}"


def _control_callouts(controls: ControlPoints, origin: str) -> list[Callout]:
    comparison = compare(controls)
    derived = controls.derived
    if comparison is None or derived is None or derived.quality is None:
        return []
    text_read = derived.test_perplexity is not None
    gap, against = (
        (_perplexity_gap(comparison.difference), "")
        if text_read
        else (points(comparison.difference), " against")
    )
    unit = "%" if text_read else ""
    noise = (
        ""
        if comparison.noise is None
        else f"; one such difference varies by ±{100 * comparison.noise:.2f}{unit}"
    )
    callouts = []
    if comparison.outcome == "beaten":
        above = "better than" if text_read else "above"
        text = f"{gap}{against} their mean, and {above} every single control{noise}."
        callouts.append(Callout("good", f"The {origin} beat its controls", text))
    elif comparison.outcome == "lost":
        clear = comparison.noise is not None and -comparison.difference > 2 * comparison.noise
        chance = "Picking at random did better." if clear else "It did no better than picking at random."
        text = f"{gap}{against} the mean of the random architectures{noise}. {chance}"
        callouts.append(Callout("bad", f"The {origin} did not beat its controls", text))
    else:
        known = [(n.name, n.quality) for n in (*controls.random, *controls.others)]
        better = [name for name, quality in known if quality is not None and quality >= derived.quality]
        reason = f" At least as good: {', '.join(better)}." if better else ""
        text = f"{gap}{against} their mean{noise}: not enough to tell it from chance.{reason}"
        if comparison.noise is None:
            text += " One control gives no spread: train two or more."
        callouts.append(Callout("bad", f"The {origin} did not clearly beat its controls", text))
    sizes = [n.parameters for n in controls.random if n.parameters]
    if sizes and derived.parameters and comparison.difference > 0:
        ratio = derived.parameters * len(sizes) / sum(sizes)
        if ratio > SIZE_ADVANTAGE:
            text = f"The derived network has {ratio:.2f} times the parameters of the mean control."
            callouts.append(Callout("warning", "Part of the gain may be size", text))
    return callouts


def relative_entropy(run: RunRecord) -> float | None:
    """The last mean entropy as a share of its maximum; None when unknown."""
    entropy = entropy_points(run)
    known = [v for v in entropy.mean.values if v is not None]
    return known[-1] / entropy.maximum if known and entropy.maximum else None


def _decision_sentences(run: RunRecord) -> list[str]:
    sentences = []
    share = relative_entropy(run)
    if share is not None:
        leaning = "hardly decided" if share > NEAR_UNIFORM else "decided" if share < 0.3 else "partly decided"
        sentences.append(
            f"After {len(run.epochs)} epochs the candidate probabilities are {leaning}: their entropy is "
            f"{percent(share, 0)} of its maximum."
        )
    stability = stability_points(run)
    if len(stability.epochs) > 1:
        if stability.last_change is None:
            sentences.append("The strongest candidates never changed.")
        else:
            quiet = stability.quiet_epochs
            since = f"{quiet} epoch{'s' * (quiet != 1)} before the last" if quiet else "in the last epoch"
            sentences.append(
                f"The architecture last changed in epoch {stability.last_change}"
                + (f", {since}." if quiet else f", {since}: it had not settled.")
            )
    if run.derivation and run.derivation.skip_share is not None:
        sentences.append(
            f"Skip connections make up {percent(run.derivation.skip_share, 0)} of the kept edges."
        )
    return [*sentences, *(_cost_sentences(run.derivation) if run.derivation else ())]


def _cost_sentences(derivation: DerivationRecord) -> list[str]:
    """How far the derived network is from what the search expected, and what of it leads nowhere."""
    sentences = [
        f"Of {gap.cost} the search expected {count(gap.expected)}; the derived network has "
        f"{count(gap.derived)}{'' if gap.relative is None else f' ({gap.relative:+.0%})'}."
        for gap in derivation.gaps
        if gap.expected is not None and gap.derived is not None
    ]
    live, macs = derivation.live, derivation.macs
    if live is not None and live.macs is not None and macs and live.macs < macs:
        sentences.append(
            f"Nodes that lead nowhere take {percent(1 - live.macs / macs, 0)} of its multiply-adds."
        )
    return sentences


def _watched(run: RunRecord) -> list[Callout]:
    """What rules did to the search, and every alarm from the epoch at which it first rang."""
    callouts = [
        Callout("info", f"Epoch {act.epoch}", _sentence(f"{act.because}; {act.did}")) for act in run.actions
    ]
    rung: dict[str, list[int]] = {}
    for line in run.epochs:
        for name in line.alarms:
            rung.setdefault(name, []).append(line.epoch)
    lines = {line.epoch: line for line in run.epochs}
    for name, epochs in rung.items():
        said = lines[epochs[0]].alarms[name]
        when = f"epoch {epochs[0]}" if epochs[-1] == epochs[0] else f"epochs {epochs[0]} to {epochs[-1]}"
        text = f"{_sentence(said.text)} {_sentence(said.remedy)}"
        callouts.append(Callout("warning", f"Alarm, {when}", text))
    return callouts


def _sentence(text: str) -> str:
    first = text[:1].upper() if text[:1].isascii() else text[:1]  # λ stays small
    return first + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def verdict(run: RunRecord) -> Verdict:
    """The run in one paragraph, and everything that a reader should be warned about."""
    controls = control_points(run)
    origin = "search" if run.genotype is None else "genotype"
    callouts = [c for c in (progress(run),) if c] + _control_callouts(controls, origin)
    share = relative_entropy(run)
    callouts += _watched(run)
    done = progress(run) is None or run.finished  # an unfinished search is bound to be undecided
    if done and share is not None and share > NEAR_UNIFORM:
        text = f"Entropy is still {percent(share, 0)} of its maximum: the choices are near ties."
        callouts.append(Callout("warning", "The search has hardly decided", text))
    callouts += [
        Callout("warning", "Derivation", _sentence(w))
        for w in (run.derivation.warnings if run.derivation else ())
    ]
    if skipped := sum(e.skipped_steps for e in run.epochs):
        steps = f"{skipped} step{'s' * (skipped != 1)} with a loss or gradient that was not finite."
        callouts.append(Callout("warning", "Skipped steps", f"The search skipped {steps}"))
    callouts += [Callout("warning", "Could not read everything", w) for w in run.warnings]
    return Verdict((_accuracy_sentence(controls, origin), *_decision_sentences(run)), tuple(callouts))
