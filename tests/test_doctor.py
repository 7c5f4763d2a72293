"""`archgrad doctor`: what it says of runs in every state, and that no file of a run makes it fall over."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from archgrad.cli import main
from archgrad.datasets.images import ImageData
from archgrad.errors import UserError
from archgrad.report.page import write_report
from archgrad.runs import Run
from archgrad.stopping import STOPPING_RULES
from archgrad.verbs import search_run
from archgrad.verbs.doctor import doctor_run, text


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def written(folder: Path, lines: list[dict[str, Any]], **config: Any) -> Path:
    """A run folder with these lines and nothing else but a configuration."""
    folder.mkdir()
    given = {"method": "darts", "search": {"epochs": 20, "warmup_epochs": 0}, **config}
    (folder / "config.yaml").write_text(json.dumps(given))
    (folder / "data.json").write_text(json.dumps({"classes": [str(n) for n in range(10)]}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def line(
    epoch: int, rows: dict[str, list[float]], architecture: dict[str, str], **more: Any
) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "seconds": 2.0,
        "train_accuracy": 0.5,
        "alpha_gradient_norm": 0.1,
        "probabilities": rows,
        "architecture": architecture,
        **more,
    }


def settled(epochs: int, share: float = 0.97) -> list[dict[str, Any]]:
    """Lines of a search that is decided and does not change."""
    names = ("cell/1<-0", "cell/2<-0", "cell/2<-1")
    row = [share, (1 - share) / 2, (1 - share) / 2]
    return [line(e, dict.fromkeys(names, row), dict.fromkeys(names, "conv")) for e in range(epochs)]


def test_a_finished_run(run: Path) -> None:
    document = doctor_run(run)
    assert document["state"] == "finished"
    assert (document["epochs"], document["planned"]) == (2, 2)
    assert set(document["rules"]) == set(STOPPING_RULES) - {"time"}
    assert "sharpness was not measured" in document["rules"]["lambda_max"]["says"]
    assert document["trust"]["says"].startswith("The derived network reaches")
    said = text(document)
    for heading in ("Has it converged?", "What is wrong?", "stopping rules say", "be trusted?"):
        assert heading in said
    assert said.endswith(f"next: archgrad report {run}")


def test_the_verb_prints_text_or_one_document(run: Path) -> None:
    shown = CliRunner().invoke(main, ["doctor", str(run)])
    assert shown.exit_code == 0
    assert shown.stdout.startswith(f"{run}: finished 2 of 2 epochs")
    document = json.loads(CliRunner().invoke(main, ["doctor", str(run), "--json"]).stdout)
    assert document["state"] == "finished"
    lost = CliRunner().invoke(main, ["doctor", str(run / "nowhere")])
    assert lost.exit_code == 2
    assert "wanted a run folder" in lost.stderr


def test_it_says_that_a_search_converged_and_since_when_rules_would_have_ended_it(tmp_path: Path) -> None:
    document = doctor_run(written(tmp_path / "run", settled(14)))
    assert document["converged"]["yes"] is True
    assert document["converged"]["says"].startswith("Yes. The choices are decided")
    assert document["converged"]["unchanged"] == 13
    # H / log 3 of (0.97, 0.015, 0.015) is 0.142; 0.98 would be 0.1020, 0.99 0.0573
    assert document["rules"]["entropy"]["epoch"] is None
    assert document["rules"]["stability"]["epoch"] == 10
    assert document["alarms"] == []
    assert "Nothing speaks against it" in document["trust"]["says"]


def test_it_uses_the_rules_and_alarms_of_the_run(tmp_path: Path) -> None:
    rules = {"stability": {"epochs": 4}}
    config = {"stopping": {"rules": rules}, "alarms": {"skip_collapse": False}}
    lines = settled(8)
    for one in lines:
        one["architecture"] = dict.fromkeys(one["architecture"], "skip_connect")
    document = doctor_run(written(tmp_path / "run", lines, **config))
    assert list(document["rules"]) == ["stability"]
    assert document["rules"]["stability"]["configured"]
    assert document["rules"]["stability"]["epoch"] == 4
    assert document["alarms"] == []
    assert document["trust"]["doubts"] == ["Skip connections are 100% of it."]
    loud = doctor_run(written(tmp_path / "loud", lines))
    assert [(a["name"], a["epoch"], a["last"]) for a in loud["alarms"]] == [("skip_collapse", 4, 7)]
    assert "→ search again with --method darts-ada" in text(loud)


def test_it_doubts_near_ties_and_a_gap(tmp_path: Path) -> None:
    rows = {"a": [0.34, 0.33, 0.33], "b": [0.8, 0.1, 0.1]}
    gap = {"gap": {"mixture": 0.8, "derived": 0.3}}
    lines = [line(e, rows, {"a": "x", "b": "y"}, diagnostics=gap) for e in range(3)]
    doubts = " ".join(doctor_run(written(tmp_path / "run", lines))["trust"]["doubts"])
    assert "1 of 2 choices are near ties, with margins below 0.02: a." in doubts
    assert "right on 30.00% of the validation part in epoch 2" in doubts


def test_a_search_without_an_epoch(tmp_path: Path) -> None:
    document = doctor_run(written(tmp_path / "run", []))
    assert document["state"] == "empty"
    assert document["converged"]["yes"] is None
    assert text(document).startswith(f"{tmp_path / 'run'}: no epoch is finished yet")


def test_running_interrupted_failed_and_killed_searches(tmp_path: Path) -> None:
    folder = written(tmp_path / "run", settled(3))
    assert doctor_run(folder)["state"] == "running"
    long_ago = time.time() - 3600
    os.utime(folder / "metrics.jsonl", (long_ago, long_ago))
    assert doctor_run(folder)["state"] == "silent"
    assert doctor_run(folder)["next"] == [f"archgrad search --run {folder} --resume"]
    stamp = "2026-01-01 00:00:00 "
    for said, state in (("stopped by SIGINT at epoch 3", "interrupted"), ("failed: diverged", "failed")):
        (folder / "log.txt").write_text(f"{stamp}search: method darts\n{stamp}{said}\n")
        assert doctor_run(folder)["state"] == state
    with (folder / "log.txt").open("a") as log:
        log.write(f"{stamp}resumed at epoch 3, step 0\n")
    assert doctor_run(folder)["state"] == "running"


def test_a_stopped_search(few_digits: ImageData, tiny: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    rules = {"plateau": {"epochs": 1, "least": 10.0}}
    settings = tiny(method="darts", search={"epochs": 6, "warmup_epochs": 0}, stopping={"rules": rules})
    run = search_run(settings, tmp_path / "run", data=few_digits)
    document = doctor_run(run.folder)
    assert document["state"] == "stopped"
    assert document["stopped"]["epoch"] == document["rules"]["plateau"]["epoch"] == 1
    said = text(document)
    assert "ended after 2 of 6 epochs" in said
    assert "the logits of epoch 0 count" in said
    assert f"next: archgrad search --run {run.folder} --resume stopping.combine=none" in said
    page = write_report(run.folder).read_text()
    assert "A rule (plateau) ended the search after 2 of 6 epochs" in page
    assert "The logits of epoch 0 count." in page


def test_the_report_shows_actions_and_alarms_with_their_epochs(
    few_digits: ImageData, tiny: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    rules = {"plateau": {"epochs": 1, "least": 10.0, "action": "freeze_alpha"}}
    settings = tiny(method="darts", search={"epochs": 5, "warmup_epochs": 0}, stopping={"rules": rules})
    settings["weights"] = {"learning_rate": 1e-7, "final_learning_rate": 0.0}
    settings["alarms"] = {"untrained_weights": {"epochs": 1, "times": 9.0}}
    run = search_run(settings, tmp_path / "run", data=few_digits)
    page = write_report(run.folder).read_text()
    assert "<strong>Epoch 1.</strong>" in page
    assert "the logits stay as they are from now on." in page
    assert "<strong>Alarm, epochs 0 to 1.</strong>" in page  # none of frozen logits
    assert "search.warmup_epochs=5" in page


def test_a_half_written_line_is_left_out_with_a_warning(run: Path) -> None:
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "prob')
    document = doctor_run(run)
    assert document["epochs"] == 2
    assert "Line 3 of metrics.jsonl is incomplete or damaged" in document["warnings"][0]
    assert "warning: Line 3" in text(document)


def test_a_configuration_that_is_not_right_leaves_the_defaults(run: Path) -> None:
    config = Run(run).read_config()
    (run / "config.yaml").write_text(json.dumps({**config, "stopping": {"rules": {"entropie": {}}}}))
    document = doctor_run(run)
    assert "entropie" in document["warnings"][0]
    assert "at their defaults" in document["warnings"][0]
    assert set(document["rules"]) == set(STOPPING_RULES) - {"time"}


def test_runs_of_before_there_were_diagnostics(run: Path) -> None:
    wanted = doctor_run(run)
    lines = [
        {k: v for k, v in one.items() if k not in ("diagnostics", "alarms")}
        for one in Run(run).read_lines("metrics.jsonl")
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    assert doctor_run(run) == wanted


JUNK = [
    None,
    True,
    -1,
    10**400,
    float("nan"),
    "x",
    [],
    {},
    [None],
    {"a": None},
    {"a": [0.5]},
    {"a": {"b": []}},
    [[]],
]


def test_no_content_of_a_run_makes_it_fall_over(run: Path) -> None:
    """Keys replaced by junk, and files by half of them: an answer or a `UserError`, and nothing else."""
    generator = random.Random(0)
    files = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    answers = 0
    for _ in range(150):
        for path, content in files.items():
            path.write_bytes(content)
        path = generator.choice(sorted(files))
        content = files[path]
        kind = generator.randrange(4)
        if kind == 0:
            path.write_bytes(content[: generator.randrange(len(content))])
        elif kind == 1:
            path.write_bytes(bytes(generator.randrange(256) for _ in range(200)))
        elif kind == 2:
            path.unlink()
        else:
            lines = [json.loads(one) for one in files[run / "metrics.jsonl"].splitlines()]
            for one in lines:
                place = generator.choice([one, one["diagnostics"], one["diagnostics"]["entropy"]])
                place[generator.choice(sorted(place))] = generator.choice(JUNK)
            (run / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
        try:
            assert text(doctor_run(run))
            answers += 1
        except UserError:
            pass
    assert answers > 100
