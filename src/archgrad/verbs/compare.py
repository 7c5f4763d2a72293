"""Compare runs that are there: speed, accuracy, stability. Nothing is written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from archgrad.choice import Group
from archgrad.errors import UserError
from archgrad.experiment.comparisons import Ratio, Side, compare_sides, judged_by
from archgrad.experiment.measures import RunRow, read_run
from archgrad.experiment.plan import CONTROL
from archgrad.experiment.sentences import shown
from archgrad.experiment.statistics import LEAST_FOR_INTERVAL, summary
from archgrad.parts import differences
from archgrad.report.quantities import points
from archgrad.runs import Run, finite
from archgrad.verbs.contents import read_config, read_groups
from archgrad.verbs.experiment import DOCUMENT, read_experiment

_NAMES = {
    "true_accuracy": "true accuracy",
    "test_accuracy": "test accuracy of the trained network",
    "shared_accuracy": "accuracy with shared weights",
    "valid_accuracy": "validation accuracy of the sampled supernet",
}


class _Found(NamedTuple):
    """A side, the folder that it is from, and what its runs have to share with those of another."""

    side: Side
    common: Mapping[str, Any]
    folder: str


def compare_folders(folders: Sequence[Path | str]) -> dict[str, Any]:
    """Every two of the sides that the folders hold, first minus second.

    Args:
        folders: of a run, of several runs that differ in their seed, or of an experiment: its arms.

    Returns:
        ``{"score", "sides": [{"name", "runs", …}], "comparisons": […], "notes"}``.

    Raises:
        UserError: a folder that is none of these, fewer than two sides, or sides that cannot be compared:
            another space, other data, another training.
    """
    notes: list[str] = []
    found: list[_Found] = []
    for folder in map(Path, folders):
        found += _sides(folder, len(folders) > 1, notes)
    if len(found) < 2:
        raise UserError("wanted two sides to compare at least, e.g.  archgrad compare runs/first runs/second")
    names = [one.side.name for one in found]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{twice} was given twice")
    first = found[0]
    problems = [
        f"{one.folder}: {_said(line, first.folder)}"
        for one in found[1:]
        for line in _different(first.common, one.common)
    ]
    if problems:
        raise UserError(
            "these runs cannot be compared:\n" + "\n".join(f"  - {line}" for line in dict.fromkeys(problems))
        )
    sides = [one.side for one in found]
    score = judged_by(sides)
    if score is None:
        raise UserError("these runs have no accuracy in common; train all of them, or none")
    if any(len(side.rows) < LEAST_FOR_INTERVAL for side in sides):
        notes.append(
            f"an interval needs {LEAST_FOR_INTERVAL} seeds a side at least; archgrad experiment runs several"
        )
    if score == "valid_accuracy":
        notes.append("the accuracy of a sampled supernet is not that of the network which is derived")
    document = {
        "score": score,
        "sides": [
            {
                "name": side.name,
                "runs": len(side.rows),
                "seeds": [row.seed for row in side.rows],
                **{
                    field: summary(list(values.values()))._asdict() if values else None
                    for field in (score, "stability", "converged", "seconds")
                    for values in (side.values(field),)
                },
            }
            for side in sides
        ],
        "comparisons": [c.document() for c in compare_sides(sides, score)],
        "notes": list(dict.fromkeys(notes)),
    }
    plain: dict[str, Any] = finite(document)
    return plain


def text(document: Mapping[str, Any]) -> str:
    """The comparison for a terminal."""
    score, sides = document["score"], {side["name"]: side for side in document["sides"]}
    width = max(map(len, sides))
    lines = [f"{'':<{width}} {'runs':>5} {'accuracy':>9} {'stability':>10} {'converged':>10} {'seconds':>9}"]
    for name, side in sides.items():
        lines.append(
            f"{name:<{width}} {side['runs']:>5} {shown(side[score]['mean']):>9} "
            f"{_mean(side['stability'], '.1%'):>10} {_mean(side['converged'], '.1f'):>10} "
            f"{_mean(side['seconds'], '.1f'):>9}"
        )
    lines.append(f"accuracy: {_NAMES[score]}")
    for c in document["comparisons"]:
        d = c["score"]
        by = f"{d['n']} pairs of the same seed" if d["paired"] and d["n"] > 1 else "one run each"
        if not d["paired"]:
            by = f"{sides[c['first']]['runs']} and {sides[c['second']]['runs']} runs"
        lines += ["", f"{c['first']} against {c['second']}, {by}"]
        lines.append(f"  accuracy   {_points(d)}" + _test(c))
        if c["stability"] is not None:
            lines.append(f"  stability  {_points(c['stability'])}")
        lines.append(f"  speed      {_ratio(c['speed'], 'epochs or steps to convergence')}")
        lines.append(f"  time       {_ratio(c['time'], 'seconds of the search')}")
    lines += [f"note: {note}" for note in document["notes"]]
    return "\n".join(lines)


def _different(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """In what two sides differ that have to have it in common; what is searched says enough."""
    return differences({"searched": first["searched"]}, {"searched": second["searched"]}) or differences(
        first, second
    )


def _said(difference: str, first: str) -> str:
    """A line of `differences` with the names of both sides."""
    return difference.replace("the run has", f"{first} has").replace("you gave", "it has")


def _points(found: Mapping[str, Any]) -> str:
    if found["low"] is None:
        return f"{points(found['difference'])}, no interval"
    low, high = (points(found[end]).removesuffix(" points") for end in ("low", "high"))
    return f"{points(found['difference'])} (95 % interval {low} to {high})"


def _test(comparison: Mapping[str, Any]) -> str:
    if comparison["score"]["n"] < 2:
        return ""
    p = f"p = {comparison['score']['permutation']:.2g}, corrected {comparison['permutation_holm']:.2g}"
    return f"; {p}: {comparison['verdict']}"


def _ratio(found: Mapping[str, Any] | None, of: str) -> str:
    if found is None:
        return f"no run converged on both sides ({of})" if "convergence" in of else "not known"
    ratio = Ratio(**found)
    ends = "" if ratio.low is None else f" (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"
    word = "as fast" if round(ratio.value, 2) == 1 else "faster" if ratio.value > 1 else "slower"
    times = "" if word == "as fast" else f"{max(ratio.value, 1 / ratio.value):.2f} times "
    return f"{times}{word}: ratio {ratio.value:.2f}{ends}, {of}, of {ratio.n}"


def _mean(found: Mapping[str, Any] | None, form: str) -> str:
    return "–" if found is None else shown(found["mean"], form)


def _sides(folder: Path, named: bool, notes: list[str]) -> list[_Found]:
    """What a folder holds. named: whether the arms of an experiment bear its name."""
    if (folder / DOCUMENT).is_file():
        return _of_experiment(folder, named)
    if (folder / "config.yaml").is_file():
        row = read_run(folder, str(folder))
        return [_Found(Side(str(folder), (row,)), _common(Run.open(folder), row), str(folder))]
    runs = sorted(path.parent for path in folder.glob("*/config.yaml")) if folder.is_dir() else []
    if not runs:
        raise UserError(
            f"{folder} holds no run, no runs and no experiment; give a folder that archgrad search or "
            "archgrad experiment wrote"
        )
    rows: dict[Path, RunRow] = {}
    for path in runs:
        try:
            rows[path] = read_run(path, str(folder))
        except UserError as error:
            notes.append(f"left out: {error}")
    if not rows:
        raise UserError(f"{folder}: no run in it has ended and derived; {notes[-1]}")
    _check_seeds(folder, rows)
    first = next(iter(rows))
    return [
        _Found(Side(str(folder), tuple(rows.values())), _common(Run.open(first), rows[first]), str(folder))
    ]


def _of_experiment(folder: Path, named: bool) -> list[_Found]:
    document = read_experiment(folder)
    try:
        rows = [RunRow(**row) for row in document["runs"] if row["status"] == "done"]
        common = _common_of_experiment(folder, document)
        names = [arm["name"] for arm in document["arms"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{folder / DOCUMENT} is damaged: {error}") from None
    sides = [Side(name, tuple(row for row in rows if row.arm == name)) for name in names]
    return [
        _Found(side._replace(name=f"{folder}: {side.name}") if named else side, common, str(folder))
        for side in sides
        if side.rows
    ]


def _common_of_experiment(folder: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """What its runs share; of its arms the first, as they were meant to be compared."""
    plan = document["plan"]
    if document["kind"] == "landscape":
        settings = {"settings": plan["landscape_settings"], "noise": plan["noise"]}
        return {"searched": f"the landscape {plan['landscape']}", **settings}
    slugs = {arm["name"]: arm["slug"] for arm in document["arms"]}
    for row in document["runs"]:
        if row["status"] == "done" and row["arm"] != CONTROL:
            run = Run.open(folder / "runs" / slugs[row["arm"]] / f"seed-{row['seed']}")
            return _common(run, RunRow(**row))
    raise UserError(f"{folder}: no run of this experiment has ended")


def _common(run: Run, row: RunRow) -> dict[str, Any]:
    """What runs must have in common to be compared; the training only where the network was trained."""
    config, data = read_config(run), run.read_json("data.json")
    groups = read_groups(run)
    with run.reading("data.json"):
        images = data["images"]
        about = {
            "name": data["name"],
            "shape": data["shape"],
            "classes": len(data["classes"]),
            "images": images["weights"] + images["architecture"],
            "test": images["test"],
        }
    common = {
        "searched": "networks",
        "space": {
            "name": config.space.name,
            "choices": [_brief(g) for g in groups if g.chosen],
            "network": config.train.space,
        },
        "data": about,
    }
    if row.test_accuracy is not None:
        common["train"] = {
            key: value for key, value in config.train.model_dump(mode="json").items() if key != "space"
        }
    found: dict[str, Any] = json.loads(json.dumps(common))
    return found


def _brief(group: Group) -> str:
    """The choices of a group in a line."""
    return (
        f"{len(group.names)} choices, {group.names[0]} to {group.names[-1]}, of {', '.join(group.candidates)}"
    )


def _check_seeds(folder: Path, rows: Mapping[Path, RunRow]) -> None:
    """Raise `UserError` unless the runs differ in their seed, and in nothing else."""
    first = next(iter(rows))
    before = {**Run.open(first).read_config(), "seed": None}
    problems = []
    for path in rows:
        changed = differences(before, {**Run.open(path).read_config(), "seed": None})
        problems += [f"{path.name}: {_said(line, first.name)}" for line in changed]
    seeds = [row.seed for row in rows.values()]
    if len(set(seeds)) < len(seeds):
        problems.append(f"two runs have the same seed: {', '.join(map(str, seeds))}")
    if problems:
        raise UserError(
            f"{folder} holds runs that differ in more than their seed; give the run folders one by one:\n"
            + "\n".join(f"  - {line}" for line in problems)
        )
