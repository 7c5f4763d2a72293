"""docs/gumbel.md shows the numbers that were kept, and figures that any page can show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "gumbel.md"
SCRIPT = ROOT / "benchmarks" / "gumbel_figures.py"
KEPT = ROOT / "benchmarks" / "results" / "gumbel_figures.json"
FIGURES = ("noise", "simplex", "estimators", "schedules")


def test_the_tables_are_those_of_the_kept_numbers() -> None:
    command = [sys.executable, str(SCRIPT), "--tables"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().split("\n\n")
    text = DOCUMENT.read_text(encoding="utf-8")
    found = re.findall(r"<!-- table (\w+): begin -->\n\n(.*?)\n\n<!-- table \1: end -->", text, re.DOTALL)
    assert {name for name, _ in found} == {"noise", "simplex", "temperatures", "estimators", "schedules"}
    wrong = "run: python benchmarks/gumbel_figures.py --draw"
    assert sorted(table for _, table in found) == sorted(printed), wrong


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_small_and_stands_alone(name: str) -> None:
    file = ROOT / "docs" / "images" / f"gumbel-{name}.svg"
    assert file.stat().st_size < 150_000
    root = ElementTree.fromstring(file.read_text(encoding="utf-8"))
    for element in root.iter():
        for key, value in element.attrib.items():
            assert not (key.endswith("href") and not value.startswith("#")), (element.tag, value)
    assert f"](images/{file.name})" in DOCUMENT.read_text(encoding="utf-8")


def test_what_the_words_say_of_the_numbers() -> None:
    """Sentences of the page that are no table."""
    kept = json.loads(KEPT.read_text(encoding="utf-8"))
    noise, schedules, estimators = kept["noise"], kept["schedules"], kept["estimators"]
    assert noise["gumbel"]["p"] > 0.01 > 1e-12 > max(noise[k]["p"] for k in ("uniform", "gaussian"))
    gaps = [max(noise["logits"]) - a > 1 for a in noise["logits"]]
    assert [f == 0 for f in noise["uniform"]["frequencies"]] == gaps  # "never draws"
    half, product = schedules["epochs"] // 2, schedules["compounding"]
    assert product[half] < 0.01 < 4 < schedules["linear"][half]
    assert [tau < 0.001 for tau in product].index(True) == 27  # "from epoch 27 of 50 on"
    above = sum(tau > 1 for tau in schedules["linear"]) / schedules["epochs"]
    assert above == pytest.approx(0.9, abs=0.02)  # "nine tenths"
    for row in kept["simplex"]["rows"]:  # the same noise, so the same argmax
        assert row["argmax"] == kept["simplex"]["rows"][0]["argmax"]
    by_tau = {
        name: dict(zip(estimators["taus"], rows, strict=True)) for name, rows in estimators["by_tau"].items()
    }
    assert by_tau["gumbel_rao"][0.1]["variance"] < by_tau["straight_through"][0.1]["variance"] / 3
    for tau, row in by_tau["reinmax"].items():
        assert (row["bias"] < 4 * row["bias_error"]) == (tau == 1.0)
    for row in by_tau["rebar"].values():
        assert row["bias"] < 4 * row["bias_error"]
    for tau in estimators["taus"]:  # "lie on one line"
        biases = [by_tau[n][tau]["bias"] for n in ("gumbel_softmax", "straight_through", "gumbel_rao")]
        assert max(biases) - min(biases) < 0.03
    at_one = estimators["at_one"]
    for name in ("straight_through", "gumbel_rao", "reinmax", "decoupled_straight_through"):
        all_gates, drawn = at_one[name]["all"], at_one[name]["drawn"]
        assert all_gates["cosine"] > 2 * drawn["cosine"]
        assert all_gates["bias"] < drawn["bias"]
    gate, score = at_one["score_gate"], at_one["score_function, no baseline"]
    assert gate["all"]["variance"] == pytest.approx(score["all"]["variance"], rel=1e-4)
    assert gate["drawn"]["variance"] < gate["all"]["variance"] / 4  # without the offset far less noisy
