"""The budgets of a run on its page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from archgrad.report.budgets import budget_points
from archgrad.report.reading import read_run
from archgrad.report.sections import page_content


def run(folder: Path, budget: str = "macs: 2k±5%", derived: bool = True) -> Path:
    (folder / "config.yaml").write_text(f"method: darts\nbudget:\n  {budget}\n")
    lines = [
        {"epoch": e, "budgets": {"macs": {"held": 3000.0 - 500 * e, "price_above": 0.1 * e}}}
        for e in range(3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if derived:
        document = {"rule": "argmax", "budgets": [{"cost": "macs", "value": 1990.0, "met": True}]}
        (folder / "derivation.json").write_text(json.dumps(document))
    return folder


def test_points(tmp_path: Path) -> None:
    (one,) = budget_points(read_run(run(tmp_path)))
    assert one.expected.values == (3000.0, 2500.0, 2000.0)
    assert one.target.values == (2000.0,) * 3
    assert one.above.values == pytest.approx((0.0, 0.1, 0.2))
    assert one.below.values == (None,) * 3
    assert one.note == "1.9 k ≤ macs ≤ 2.1 k; derived: 1.99 k, met"


def test_panels(tmp_path: Path) -> None:
    content = page_content(read_run(run(tmp_path, derived=False)), {})
    panels = {panel.key: panel for panel in content["curves"] if panel.key.startswith("budget")}
    assert [panel.title for panel in panels.values()] == ["Expected macs", "Price of macs"]
    assert "not derived yet" in panels["budget-cost-0"].note
    assert set(panels) <= set(content["figures"])


@pytest.mark.parametrize("budget", ["macs: 2", "nothing: 1k"])
def test_budgets_that_cannot_be_read_are_left_out(tmp_path: Path, budget: str) -> None:
    assert budget_points(read_run(run(tmp_path, budget))) == ()


def test_a_run_without_budgets_has_no_panels(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("method: darts\n")
    assert budget_points(read_run(tmp_path)) == ()
