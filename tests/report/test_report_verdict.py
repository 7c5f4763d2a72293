import json

import pytest

from archgrad.report.points import ControlPoints, TrainedNetwork
from archgrad.report.quantities import count, duration, percent, points
from archgrad.report.reading import read_run
from archgrad.report.verdict import compare, verdict


def _network(accuracy, kind="random", parameters=1000):
    return TrainedNetwork(kind, kind, accuracy, 0.99, 1000, parameters, 1e6, 10, 0, 60.0)


def _controls(derived, accuracies, others=()):
    mean = sum(accuracies) / len(accuracies)
    n = len(accuracies)
    deviation = (sum((a - mean) ** 2 for a in accuracies) / (n - 1)) ** 0.5 if n > 1 else None
    return ControlPoints(
        _network(derived, "derived"),
        tuple(_network(a) for a in accuracies),
        tuple(_network(a, "residual") for a in others),
        mean,
        deviation,
    )


@pytest.mark.parametrize(
    ("derived", "accuracies", "others", "outcome"),
    [
        (0.95, [0.90, 0.91, 0.92], [0.93], "beaten"),
        (0.95, [0.90, 0.91, 0.92], [0.96], "unclear"),  # a plain network did better
        (0.925, [0.90, 0.91, 0.92], [], "unclear"),  # 1.5 points against 2 × 1.15
        (0.9099, [0.90, 0.91, 0.92], [], "lost"),
        (0.95, [0.90], [], "unclear"),  # one control has no spread
    ],
)
def test_outcome_against_the_controls(derived, accuracies, others, outcome):
    assert compare(_controls(derived, accuracies, others)).outcome == outcome


def test_noise_of_one_network_against_a_mean():
    comparison = compare(_controls(0.95, [0.90, 0.92]))
    assert comparison.noise == pytest.approx(0.02 / 2**0.5 * 1.5**0.5)
    assert comparison.difference == pytest.approx(0.04)


@pytest.mark.parametrize(
    ("lead", "title", "level"),
    [
        (0.02, "The search beat its controls", "good"),
        (0.001, "The search did not clearly beat its controls", "bad"),
        (-0.01, "The search did not beat its controls", "bad"),
    ],
)
def test_the_callout_says_plainly_how_it_went(make_run, lead, title, level):
    callouts = verdict(read_run(make_run(lead=lead))).callouts
    assert [(c.title, c.level) for c in callouts if "beat" in c.title] == [(title, level)]


def test_the_sentences_hold_the_numbers(make_run):
    folder = make_run()
    result = json.loads((folder / "train/derived/result.json").read_text())
    text = " ".join(verdict(read_run(folder)).sentences)
    assert f"{100 * result['test_accuracy']:.2f}% test accuracy on 10,000 test images" in text
    assert "5 random architectures" in text
    assert "last changed in epoch 46, 3 epochs before the last" in text


def test_an_unfinished_search_says_so_and_is_not_blamed(make_run):
    run = read_run(make_run(epochs=7, derived=False))
    callouts = verdict(run).callouts
    assert callouts[0].text.startswith("Search running or interrupted: 7 of 50 epochs")
    assert not any("hardly decided" in c.title for c in callouts)


def test_a_finished_search_without_decision_is_warned_about(make_run):
    folder = make_run(epochs=7, derived=False)
    (folder / "logits.safetensors").write_bytes(b"")
    titles = [c.title for c in verdict(read_run(folder)).callouts]
    assert titles == ["Stopped early", "The search has hardly decided"]


def test_size_skipped_steps_and_derivation_are_warned_about(make_run):
    folder = make_run(lead=0.03, epochs=6, planned=6)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[2]["skipped_steps"] = 3
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    result = json.loads((folder / "train/derived/result.json").read_text())
    (folder / "train/derived/result.json").write_text(json.dumps(result | {"parameters": 6_000_000}))
    derivation = json.loads((folder / "derivation.json").read_text())
    (folder / "derivation.json").write_text(json.dumps(derivation | {"warnings": ["weak edge"]}))
    texts = {c.title: c.text for c in verdict(read_run(folder)).callouts}
    assert "times the parameters" in texts["Part of the gain may be size"]
    assert texts["Skipped steps"].startswith("The search skipped 3 steps")
    assert texts["Derivation"] == "Weak edge."


def test_quantities_at_their_borders():
    assert [count(v) for v in (None, 0, 999, 1000, 12_345, 123_456, 999_999, 1.5e9)] == [
        "–", "0", "999", "1.00 k", "12.3 k", "123 k", "1.00 M", "1.50 G",
    ]  # fmt: skip
    assert [duration(v) for v in (None, 0, 59.94, 59.96, 60, 3600, 86_399, 90_000)] == [
        "–", "0.0 s", "59.9 s", "1 min", "1 min", "1 h", "23 h 59 min", "1 d 1 h",
    ]  # fmt: skip
    assert percent(float("nan")) == "–"
    assert points(-0.0123) == "−1.23 points"
