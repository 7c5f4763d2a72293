"""What takes minutes: `make slow`."""

from __future__ import annotations

from pathlib import Path
from statistics import mean

import pytest

from archgrad.demo import SETTINGS
from archgrad.verbs import derive_run, search_run, train_run


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_demo_reaches_98_percent_on_digits(tmp_path: Path) -> None:
    """Mean of three seeds, with the demo's own settings."""
    accuracies = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        search_run({**SETTINGS, "seed": seed}, folder)
        derive_run(folder)
        accuracies.append(train_run(folder).derived["test_accuracy"])
    assert mean(accuracies) >= 0.98, accuracies
