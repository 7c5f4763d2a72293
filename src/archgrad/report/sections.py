"""What stands on the page: tiles, drawings, tables and figures, put together from the points."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from archgrad.architecture import Edge
from archgrad.report import convergence_panels, figures, heat_maps, points, trained_figures, trajectories
from archgrad.report.budgets import budget_points
from archgrad.report.cell_drawing import cell_svg, choices_svg
from archgrad.report.convergence import convergence_points
from archgrad.report.figures import Figure, Panel
from archgrad.report.frames import LARGEST_CELL, Drawing, frame_drawings, frames_json, frames_of
from archgrad.report.quantities import count, duration, percent
from archgrad.report.reading import Decision, RunRecord
from archgrad.report.verdict import relative_entropy, verdict


class Tile(NamedTuple):
    """A number at the top of the page."""

    label: str
    value: str
    note: str


class DecisionRow(NamedTuple):
    """A row of the decision table; `certainty` is 1 − entropy / ln K, None when K is unknown."""

    choice: str
    decision: Decision
    certainty: float | None


def candidate_names(run: RunRecord) -> list[str]:
    """All candidates that occur in the run; those of the space first, in its order."""
    names = [name for row in points.candidates_of(run).values() for name in row]
    for winners in points.stability_points(run).winners.values():
        names += [winner for winner in winners if winner is not None]
    for decision in points.decision_points(run):
        names += [decision.winner, *([decision.runner_up] if decision.runner_up else [])]
    return list(dict.fromkeys([*names, *(run.architecture or {}).values()]))


def page_content(run: RunRecord, colours: Mapping[str, str]) -> dict[str, Any]:
    """The variables of the template. colours: CSS colour by candidate."""
    decisions = points.decision_points(run)
    controls = points.control_points(run)
    stability = points.stability_points(run)
    strips = Panel("stability", "Strongest candidate by epoch", "", None, "No epoch yet.")
    if stability.epochs:
        strips = strips._replace(figure=heat_maps.stability_figure(stability, colours))
    overview, details, contested = _probabilities(run, colours, decisions)
    curves, comparison, training = [*_curves(run), *_budgets(run)], _comparison(controls), _training(run)
    convergence = _convergence(run)
    watching = [p for p in (convergence["alarms"],) if p is not None]
    watching += [*convergence["records"], *convergence["probes"], *convergence["choices"]]
    drawn: dict[str, Figure] = {}
    for panel in (*curves, *watching, *overview, strips, *comparison, *training):
        if panel.figure is not None:
            drawn[panel.key] = panel.figure
    probabilities = points.probability_points(run)
    frames = frames_of(stability, probabilities, list(colours))
    return {
        "run": run,
        "subtitle": _subtitle(run),
        "verdict": verdict(run),
        "tiles": _tiles(run, controls),
        "drawings": _drawings(run, decisions, colours),
        "decisions": _decision_groups(run, decisions),
        "curves": curves,
        "convergence": convergence,
        "moving": frame_drawings(frames, colours) if frames.choices else [],
        "frames": frames_json(frames),
        "trajectories": details.trajectories,
        "pictures": details.pictures,
        "overview": overview,
        "details": details.figures,
        "contested": contested,
        "strips": strips,
        "stability": stability,
        "comparison": comparison,
        "controls": controls,
        "training": training,
        "figures": drawn,
        "environment": list(_flat(run.environment)),
        "data": list(_flat(run.data)),
        "percent": percent,
        "count": count,
        "duration": duration,
    }


def _subtitle(run: RunRecord) -> list[tuple[str, str]]:
    """Method, space, data, seed and date, as far as they are known."""
    started = run.environment.get("started") or run.environment.get("date")
    facts = {
        "genotype": run.genotype,
        "method": run.setting("method") if run.genotype is None else None,
        "space": run.setting("space.name"),
        "data": run.data.get("name") or run.setting("data.name"),
        "seed": run.setting("seed"),
        "started": started[:16].replace("T", " ") if isinstance(started, str) else None,
    }
    return [(name, str(value)[:60]) for name, value in facts.items() if isinstance(value, str | int)]


def _tiles(run: RunRecord, controls: points.ControlPoints) -> list[Tile]:
    derived, derivation = controls.derived, run.derivation
    seconds = [e.seconds for e in run.epochs if e.seconds is not None]
    parameters: float | None
    if derived is not None:
        parameters, macs, origin = derived.parameters, derived.macs, "derived network"
        against = "no controls yet" if controls.mean is None else f"random controls {percent(controls.mean)}"
        accuracy = Tile("Test accuracy", percent(derived.test_accuracy), against)
        if derived.test_perplexity is not None:
            words = f"{percent(derived.test_accuracy)} of the words right"
            accuracy = Tile("Test perplexity", f"{derived.test_perplexity:.2f}", words)
    else:
        parameters = derivation.parameters if derivation else None
        macs = derivation.macs if derivation else None
        origin = "predicted, not trained yet" if derivation else "not derived yet"
        best = run.best.valid_accuracy if run.best else None
        note = "not trained yet" if best is None else f"best validation {percent(best)}"
        accuracy = Tile("Test accuracy", percent(None), note)
    epochs = f"{len(run.epochs)} epochs" if run.epochs else "no epoch yet"
    if seconds:
        epochs += f", {duration(statistics.median(seconds))} each"
    nats = [v for v in points.entropy_points(run).mean.values if v is not None]
    undecided = f"of its maximum; {nats[-1]:.2f} nats" if nats else "no epoch yet"
    tiles = [
        accuracy,
        Tile("Parameters", count(parameters), origin),
        Tile(
            "Multiply-adds",
            count(macs),
            f"for one {'word' if run.data.get('vocabulary') else 'image'}" if derived else origin,
        ),
    ]
    if run.genotype is None:
        tiles += [
            Tile("Search time", duration(sum(seconds) if seconds else None), epochs),
            Tile("Entropy", percent(relative_entropy(run), 0), undecided),
        ]
    return tiles


def _drawings(run: RunRecord, decisions: Sequence[Decision], colours: Mapping[str, str]) -> list[Drawing]:
    """The derived cells, or those of the strongest candidates so far; choices that are no edges last."""
    chosen = dict(run.architecture or {})
    if not chosen and run.epochs:
        chosen = {d.name: d.winner for d in decisions} | run.epochs[-1].architecture
    likely = {d.name: d.winner_probability for d in decisions}
    by_winner = {d.name: d.winner for d in decisions}
    cells: dict[str, dict[Edge, str]] = {}
    others: list[tuple[str, str, float | None]] = []
    for name, candidate in chosen.items():
        edge = Edge.parse(name)
        if edge is not None and edge.source < edge.node <= LARGEST_CELL:
            cells.setdefault(edge.cell, {})[edge] = candidate
        else:
            others.append((name, candidate, likely.get(name) if by_winner.get(name) == candidate else None))
    drawings = []
    for cell, edges in cells.items():
        # The probability is that of the winner: it says nothing about an edge that the rule gave `none`.
        weights = {
            e: p
            for e, candidate in edges.items()
            if (p := likely.get(str(e))) is not None and by_winner.get(str(e)) == candidate
        }
        drawings.append(
            Drawing(
                f"{cell} cell" if cell != "cell" else cell, cell_svg(edges, weights, colours, f"{cell} cell")
            )
        )
    if others:
        drawings.append(Drawing("choices", choices_svg(others, colours, "choices")))
    return drawings


def _cell_of(choice: str) -> str:
    edge = Edge.parse(choice)
    return edge.cell if edge else "choices"


def _decision_groups(run: RunRecord, decisions: Sequence[Decision]) -> dict[str, list[DecisionRow]]:
    """Decisions by cell; choices that are no edges are one group."""
    sizes = {choice: len(names) for choice, names in points.candidates_of(run).items()}
    groups: dict[str, list[DecisionRow]] = {}
    for decision in decisions:
        edge, size = Edge.parse(decision.name), sizes.get(decision.name, 0)
        entropy = points.finite(decision.entropy)
        certainty = None if entropy is None or size < 2 else max(0.0, 1 - entropy / math.log(size))
        label = f"{edge.node}<-{edge.source}" if edge else decision.name
        groups.setdefault(_cell_of(decision.name), []).append(DecisionRow(label, decision, certainty))
    return groups


def _curves(run: RunRecord) -> list[Panel]:
    entropy, cost = points.entropy_points(run), points.cost_points(run)
    range_known = any(v is not None for v in entropy.lowest.values)

    def panel(
        key: str, title: str, note: str, series: Iterable[points.Series], figure: Figure, absent: str = ""
    ) -> Panel:
        if any(v is not None for s in series for v in s.values):
            return Panel(key, title, note, figure)
        return Panel(key, title, note, None, (absent if run.epochs else "") or "No epoch yet.")

    loss, accuracy = points.loss_points(run), points.accuracy_points(run)
    tau, gradient = points.tau_points(run), points.gradient_points(run)
    return [
        panel("loss", "Loss", "of the sampled supernet", loss, figures.curves(loss), "Not measured."),
        panel(
            "accuracy",
            "Accuracy",
            "of the sampled supernet",
            accuracy,
            figures.curves(accuracy, form=".1%"),
            "Not measured.",
        ),
        panel(
            "entropy",
            "Entropy of the choices",
            "mean and range, nats" if range_known else "mean, nats",
            [entropy.mean],
            figures.entropy_figure(entropy),
            "Not measured.",
        ),
        panel(
            "tau",
            "Temperature τ",
            "of the sampler",
            [tau],
            figures.curves([tau], form=".3g"),
            "The sampler of this method has no temperature.",
        ),
        panel(
            "cost",
            "Expected cost",
            f"in {cost.unit}" if cost.unit else "",
            [cost.series],
            figures.curves([cost.series], form=".3s"),
            "This search had no cost; cost.name in the configuration adds one.",
        ),
        panel(
            "gradient",
            "Gradient norm",
            "epoch means before clipping",
            gradient,
            figures.curves(gradient, form=".3g", logarithmic=True),
            "Not measured.",
        ),
    ]


def _budgets(run: RunRecord) -> list[Panel]:
    """Two figures for every budget."""
    found = []
    for number, one in enumerate(budget_points(run)):
        pairs = (
            ("cost", f"Expected {one.cost}", one.note, (one.expected, one.target), ".4s"),
            ("price", f"Price of {one.cost}", "nats for 100 % of the target", (one.above, one.below), ".3g"),
        )
        for key, title, note, series, form in pairs:
            figure = figures.curves(series, form=form) if one.expected.epochs else None
            found.append(Panel(f"budget-{key}-{number}", title, note, figure, "No epoch yet."))
    return found


def _convergence(run: RunRecord) -> dict[str, Any]:
    """The panels of what diagnostics, alarms and rules said."""
    found = convergence_points(run)
    return {
        "alarms": convergence_panels.alarm_panel(found, [e.epoch for e in run.epochs])
        if run.epochs
        else None,
        "watched": found.watched,
        "records": convergence_panels.record_panels(found),
        "probes": convergence_panels.probe_panels(found),
        "choices": convergence_panels.choice_panels(found),
    }


class _Details(NamedTuple):
    """Of every choice: its heat map, its curves, and a small picture of these."""

    figures: dict[str, Figure]
    trajectories: dict[str, Figure]
    pictures: list[trajectories.Picture]


def _probabilities(
    run: RunRecord, colours: Mapping[str, str], decisions: Sequence[Decision]
) -> tuple[list[Panel], _Details, str]:
    """One overview per cell, the details of each choice, and the choice with the smallest margin."""
    probabilities = points.probability_points(run)
    if not probabilities.rows:
        return [], _Details({}, {}, []), ""
    known = [v for row in probabilities.rows for v in row.values if v is not None]
    largest = min(1.0, math.ceil(10 * max(known, default=1.0)) / 10)
    by_choice = probabilities.choices()
    cells: dict[str, list[points.ProbabilityRow]] = {}
    for row in probabilities.rows:
        cells.setdefault(_cell_of(row.choice), []).append(row)
    overview = [
        Panel(
            f"probabilities-{index}",
            f"{cell} cell" if cell not in ("cell", "choices") else cell,
            "",
            heat_maps.probability_figure(probabilities.epochs, rows, colours, largest),
        )
        for index, (cell, rows) in enumerate(cells.items())
    ]
    epochs = probabilities.epochs
    details = {
        choice: heat_maps.probability_figure(
            epochs, rows, colours, largest, row_height=max(26, 150 / len(rows)), detailed=True
        )
        for choice, rows in by_choice.items()
    }
    curves = {
        choice: trajectories.trajectory_figure(epochs, rows, colours, largest)
        for choice, rows in by_choice.items()
    }
    pictures = trajectories.trajectory_pictures(by_choice, colours, largest)
    margins = {d.name: d.margin for d in decisions if d.margin is not None and d.name in details}
    contested = min(margins, key=lambda name: margins[name]) if margins else next(iter(details))
    return overview, _Details(details, curves, pictures), contested


def _comparison(controls: points.ControlPoints) -> list[Panel]:
    networks = controls.networks()
    if not networks:
        return []
    note = "bar: mean ± one standard deviation" if controls.deviation is not None else ""
    panels = []
    if any(n.test_accuracy is not None for n in networks):
        figure = trained_figures.control_figure(controls, "test_accuracy")
        panels.append(Panel("control-accuracy", "Test accuracy", note, figure))
    if any(n.parameters is not None for n in networks):
        figure = trained_figures.control_figure(controls, "parameters")
        panels.append(Panel("control-parameters", "Parameters", "", figure))
    return panels


def _training(run: RunRecord) -> list[Panel]:
    networks = points.training_points(run)
    if not networks:
        return []
    loss, accuracy = trained_figures.training_figures(networks, {t.name: t.kind for t in run.trainings})
    return [
        Panel("training-loss", "Training loss", "", loss),
        Panel("training-accuracy", "Training accuracy", "", accuracy),
    ]


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested keys joined by dots, values as text; long lists are cut."""
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and prefix.count(".") < 4:
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list):
            shown = ", ".join(f"{v:.4g}" if isinstance(v, float) else str(v) for v in value[:20])
            yield name, shown + (f", … ({len(value)})" if len(value) > 20 else "")
        else:
            yield name, str(value)
