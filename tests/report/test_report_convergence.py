import json
import math
import re

import pytest

from archgrad.report.convergence import convergence_points
from archgrad.report.frames import frame_drawings, frames_of
from archgrad.report.page import write_report
from archgrad.report.points import probability_points, stability_points
from archgrad.report.reading import read_run
from archgrad.report.sections import candidate_names

ALARM = {"text": "4 of 6 edges are <b>skip_connect</b>", "remedy": "end it earlier"}


def _rewrite(folder, change):
    path = folder / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        change(row)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def _figures(folder):
    html = write_report(folder).read_text()
    return html, json.loads(re.search(r'id="figures">(.*?)</script>', html, re.S)[1])


@pytest.fixture
def watched(make_run):
    """A run with probes in every second epoch, an alarm, an action and a stop."""
    folder = make_run(space="nasbench201", epochs=8, planned=12, derived=False)

    def change(row):
        epoch = row["epoch"]
        row["diagnostics"] = {"entropy": {"mean": 1.0}}
        if epoch % 2:
            row["diagnostics"]["gap"] = {"mixture": 0.5 + epoch / 100, "derived": 0.4, "drop": 0.1}
            row["diagnostics"]["sharpness"] = {"largest": 0.1 * epoch}
        if epoch in (3, 4):
            row["alarms"] = {"skip_collapse": ALARM}

    _rewrite(folder, change)
    action = {"epoch": 5, "because": "λ_max rose", "action": "raise_tau", "did": "τ is 2"}
    (folder / "actions.jsonl").write_text(json.dumps(action) + "\n")
    stop = {"epoch": 7, "rules": ["plateau"], "because": "nothing gained", "rolled_back_to": 6}
    (folder / "stopped.json").write_text(json.dumps(stop))
    return folder


def test_records_of_an_old_run_are_computed_from_its_lines(make_run):
    folder = make_run(space="nasbench201", epochs=7, derived=False)
    found = convergence_points(read_run(folder))
    assert not found.watched
    assert found.probes == ()
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    name, row = next(iter(last["probabilities"].items()))
    entropy, margin = found.choices
    assert entropy.rows[name][-1] == pytest.approx(-sum(p * math.log(p) for p in row) / math.log(5))
    first, second = sorted(row, reverse=True)[:2]
    assert margin.rows[name][-1] == pytest.approx(first - second)
    mean = next(curves for curves in found.records if curves.key == "margin").series[0]
    assert mean.values[-1] == pytest.approx(sum(rows[-1] for rows in margin.rows.values()) / 6)


def test_probes_are_drawn_at_the_epochs_at_which_they_were_taken(watched):
    found = convergence_points(read_run(watched))
    gap, sharpness = found.probes
    assert [s.name for s in gap.series] == ["mixture", "derived"]
    assert gap.series[0].epochs == (1, 3, 5, 7)
    assert gap.series[0].values == pytest.approx((0.51, 0.53, 0.55, 0.57))
    assert sharpness.series[0].values == pytest.approx((0.1, 0.3, 0.5, 0.7))
    html, content = _figures(watched)
    assert content["figures"]["diagnostic-gap"]["data"][0]["x"] == [1, 3, 5, 7]
    assert "Not measured in this search" not in html


def test_alarms_actions_and_the_end_are_on_one_line_of_time(watched):
    figure = _figures(watched)[1]["figures"]["alarms"]
    alarm, action, stop = figure["data"]
    assert (alarm["x"], alarm["y"]) == ([3, 4], ["skip collapse"] * 2)
    assert (action["x"], stop["x"]) == ([5], [7])
    assert "&lt;b&gt;" in alarm["text"][0]  # plotly reads tags
    assert "λ_max rose; τ is 2" in action["text"][0]
    assert figure["layout"]["xaxis"]["range"] == [-0.5, 7.5]


def test_silence_is_told_from_not_asked(make_run):
    folder = make_run(space="nasbench201", epochs=3, derived=False)
    assert f"archgrad doctor {folder}" in _figures(folder)[0]
    _rewrite(folder, lambda row: row.update(diagnostics={"entropy": {"mean": 1.0}}))
    assert "No alarm rang and no rule acted" in _figures(folder)[0]


def test_damaged_diagnostics_cost_only_themselves(watched):
    def change(row):
        if row["epoch"] == 3:
            row["diagnostics"] = {"gap": 3, "sharpness": {"largest": "much"}, "entropy": None}

    _rewrite(watched, change)
    gap, sharpness = convergence_points(read_run(watched)).probes
    assert gap.series[0].epochs == sharpness.series[0].epochs == (1, 5, 7)


def test_frames_say_what_each_epoch_would_have_derived(make_run):
    folder = make_run(space="nasbench201", epochs=5, derived=False)
    rows = _rewrite(folder, lambda row: row["architecture"].update({"cell/2<-1": "none"}))
    run = read_run(folder)
    names = candidate_names(run)
    frames = frames_of(stability_points(run), probability_points(run), names)
    assert frames.epochs == (0, 1, 2, 3, 4)
    for choice, (shown, values, kept) in frames.choices.items():
        for i, row in enumerate(rows):
            p = row["probabilities"][choice]
            if choice == "cell/2<-1":  # left out: what is the most probable there
                assert not kept[i]
                assert values[i] == round(max(p), 6)
            else:
                assert names[shown[i]] == row["architecture"][choice]
                assert values[i] == round(p[run.candidates[choice].index(names[shown[i]])], 6)
    (drawing,) = frame_drawings(frames, {})
    assert drawing.svg.count('data-choice="cell/') == 12  # an arc and a label of each of the six edges


def test_a_choice_without_a_known_winner_has_no_frame(make_run):
    folder = make_run(space="nasbench201", epochs=3, derived=False)

    def change(row):
        if row["epoch"] == 1:
            del row["architecture"]["cell/1<-0"]
            row["probabilities"]["cell/1<-0"] = [None] * 5

    _rewrite(folder, change)
    run = read_run(folder)
    frames = frames_of(stability_points(run), probability_points(run), candidate_names(run))
    assert len(frames.choices) == 5
    assert "cell/1<-0" not in frames.choices


def test_every_choice_has_a_curve_for_each_candidate_and_a_small_picture(make_run):
    html, content = _figures(make_run(space="nasbench201", epochs=4, derived=False))
    figure = content["trajectories"]["cell/3<-1"]
    assert [trace["name"] for trace in figure["data"]][:2] == ["none", "skip_connect"]
    assert [len(trace["y"]) for trace in figure["data"]] == [4] * 5
    assert html.count('class="mini"') == 6
    assert html.count("<polyline") == 6 * 5
