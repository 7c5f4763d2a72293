import json
import math
import statistics

import pytest

from archgrad.report import points
from archgrad.report.reading import read_run


def _metrics(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_curves_are_the_columns_of_the_metrics(make_run):
    folder = make_run(epochs=6, derived=False)
    rows, run = _metrics(folder), read_run(folder)
    columns = {
        "train_loss": points.loss_points(run)[0],
        "valid_loss": points.loss_points(run)[1],
        "train_accuracy": points.accuracy_points(run)[0],
        "valid_accuracy": points.accuracy_points(run)[1],
        "entropy_mean": points.entropy_points(run).mean,
        "tau": points.tau_points(run),
        "cost": points.cost_points(run).series,
        "alpha_gradient_norm": points.gradient_points(run)[0],
        "weight_gradient_norm": points.gradient_points(run)[1],
    }
    for key, series in columns.items():
        assert series.values == tuple(row[key] for row in rows), key
        assert series.epochs == tuple(range(6))
    assert points.cost_points(run).unit == "MACs"


def test_without_a_unit_in_the_lines_a_cost_has_its_name(make_run):
    for cost, unit in ((True, "macs"), (False, "")):
        folder = make_run(f"cost-{cost}", epochs=2, derived=False, cost=cost)
        rows = [{k: v for k, v in row.items() if k != "cost_unit"} for row in _metrics(folder)]
        (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
        assert points.cost_points(read_run(folder)).unit == unit


def test_entropy_range_and_maximum(make_run):
    folder = make_run(epochs=3, derived=False)
    entropy = points.entropy_points(read_run(folder))
    last = _metrics(folder)[-1]["entropy"].values()
    assert entropy.lowest.values[-1] == min(last)
    assert entropy.highest.values[-1] == max(last)
    assert entropy.maximum == pytest.approx(math.log(8))
    mixed = points.entropy_points(read_run(make_run("own", space="own", epochs=2, derived=False)))
    assert mixed.maximum == pytest.approx((math.log(3) + 2 * math.log(2)) / 3)


def test_probabilities_keep_choice_candidate_and_epoch(make_run):
    folder = make_run(space="nasbench201", epochs=5, derived=False)
    rows = _metrics(folder)
    probabilities = points.probability_points(read_run(folder))
    assert len(probabilities.rows) == 30
    assert probabilities.epochs == tuple(range(5))
    for row in probabilities.rows:
        k = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"].index(row.candidate)
        assert row.values == tuple(e["probabilities"][row.choice][k] for e in rows)
    assert [len(rows) for rows in probabilities.choices().values()] == [5] * 6


def test_stability_counts_the_changes_that_the_run_recorded(make_run):
    folder = make_run(epochs=20, derived=False)
    rows, stability = _metrics(folder), points.stability_points(read_run(folder))
    assert stability.changes == tuple(len(row["changed"]) for row in rows)
    assert stability.last_change == max(row["epoch"] for row in rows if row["changed"])
    assert stability.quiet_epochs == 19 - stability.last_change
    assert stability.winners["normal/3<-1"] == tuple(row["architecture"]["normal/3<-1"] for row in rows)


def test_stability_falls_back_on_the_probabilities(make_run):
    folder = make_run(epochs=8, derived=False)
    rows = _metrics(folder)
    expected = points.stability_points(read_run(folder)).winners
    for row in rows:
        del row["architecture"]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert points.stability_points(read_run(folder)).winners == expected


def test_decisions_without_derivation_come_from_the_last_epoch(make_run):
    folder = make_run(space="nasbench201", epochs=30, planned=50, derived=False)
    last = _metrics(folder)[-1]
    for decision in points.decision_points(read_run(folder)):
        ranked = sorted(last["probabilities"][decision.name], reverse=True)
        assert decision.winner == last["architecture"][decision.name]
        assert decision.winner_probability == ranked[0]
        assert decision.margin == pytest.approx(ranked[0] - ranked[1])


def test_derivation_goes_before_the_last_epoch(make_run):
    folder = make_run(epochs=5, planned=5)
    document = json.loads((folder / "derivation.json").read_text())
    document["choices"][0]["winner"] = "max_pool_3x3"
    (folder / "derivation.json").write_text(json.dumps(document))
    assert points.decision_points(read_run(folder))[0].winner == "max_pool_3x3"


def test_controls_mean_and_deviation(make_run):
    folder = make_run(epochs=2, planned=2, controls=4)
    controls = points.control_points(read_run(folder))
    results = [json.loads((folder / f"train/random-{i}/result.json").read_text()) for i in range(4)]
    accuracies = [r["test_accuracy"] for r in results]
    assert controls.mean == pytest.approx(statistics.fmean(accuracies))
    assert controls.deviation == pytest.approx(statistics.stdev(accuracies))
    assert controls.derived.name == "derived"
    assert [n.name for n in controls.others] == ["residual"]
    assert len(controls.networks()) == 6


def test_not_finite_is_not_measured(make_run):
    folder = make_run(epochs=3, derived=False)
    rows = _metrics(folder)
    rows[1]["train_loss"] = float("nan")
    rows[2]["probabilities"]["normal/2<-0"][0] = float("inf")
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    run = read_run(folder)
    assert points.loss_points(run)[0].values[1] is None
    assert points.probability_points(run).rows[0].values[2] is None
    assert run.warnings == ()


def test_training_curves_follow_their_networks(make_run):
    folder = make_run(epochs=2, planned=2, controls=1)
    curves = {loss.name: (loss, accuracy) for loss, accuracy in points.training_points(read_run(folder))}
    assert set(curves) == {"derived", "random-0", "residual"}
    rows = [json.loads(x) for x in (folder / "train/residual/metrics.jsonl").read_text().splitlines()]
    assert curves["residual"][0].values == tuple(row["train_loss"] for row in rows)
    assert curves["residual"][1].values == tuple(row["train_accuracy"] for row in rows)


def test_an_empty_run_has_no_points(make_run):
    run = read_run(make_run(epochs=0, derived=False))
    assert points.probability_points(run).rows == ()
    assert points.stability_points(run).epochs == ()
    assert points.decision_points(run) == ()
    assert points.control_points(run).networks() == ()
    assert points.entropy_points(run).maximum == pytest.approx(math.log(8))
