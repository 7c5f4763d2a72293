import json

import pytest

from archgrad.errors import UserError
from archgrad.report.reading import read_run


def test_a_finished_run_is_read_whole(make_run):
    run = read_run(make_run())
    assert run.name == "run"
    assert [e.epoch for e in run.epochs] == list(range(50))
    assert run.finished
    assert run.planned_epochs == 50
    assert len(run.candidates) == 28
    assert run.candidates["reduce/5<-4"][3] == "skip_connect"
    assert [t.name for t in run.trainings] == ["derived", *(f"random-{i}" for i in range(5)), "residual"]
    assert run.derivation.rule == "darts"
    assert sum(c != "none" for c in run.architecture.values()) == 16
    assert run.setting("method") == "snas"
    assert run.setting("no.such", "space.name") == "darts"
    assert run.warnings == ()


def test_a_half_written_last_line_is_left_out_and_said(make_run):
    folder = make_run(epochs=4, derived=False)
    whole = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(whole[:-300])
    run = read_run(folder)
    assert [e.epoch for e in run.epochs] == [0, 1, 2]
    assert len(run.warnings) == 1
    assert "Line 4 of metrics.jsonl" in run.warnings[0]
    assert "up to it" in run.warnings[0]


@pytest.mark.parametrize("damage", [b"{}", b"[1]", b"\xff\xfe\x00", b'{"epoch": "x"}', b"[" * 100_000])
def test_a_damaged_line_in_the_middle_costs_only_itself(make_run, damage):
    folder = make_run(epochs=4, derived=False)
    lines = (folder / "metrics.jsonl").read_bytes().splitlines()
    lines[1] = damage
    (folder / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    run = read_run(folder)
    assert [e.epoch for e in run.epochs] == [0, 2, 3]
    assert "Line 2 of metrics.jsonl" in run.warnings[0]
    assert "left out" in run.warnings[0]


def test_an_epoch_written_twice_counts_once_the_later_line(make_run):
    folder = make_run(epochs=3, derived=False)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    again = json.loads(lines[1]) | {"train_loss": 123.0}
    (folder / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(again)]) + "\n")
    run = read_run(folder)
    assert [e.epoch for e in run.epochs] == [0, 1, 2]
    assert run.epochs[1].train_loss == 123.0


@pytest.mark.parametrize(
    "name",
    ["choices.json", "derivation.json", "architecture.json", "best.json", "environment.json", "data.json"],
)
@pytest.mark.parametrize("content", ["{", "[]", '{"choices": 3, "groups": 1, "epoch": []}'])
def test_a_damaged_document_is_a_warning_not_a_crash(make_run, name, content):
    folder = make_run(epochs=2, planned=2)
    (folder / name).write_text(content)
    run = read_run(folder)
    objects_are_fine = name in ("environment.json", "data.json") and content.startswith('{"')
    assert any(name in warning for warning in run.warnings) != objects_are_fine
    assert len(run.epochs) == 2


def test_a_damaged_configuration_is_still_shown(make_run):
    folder = make_run(epochs=2, derived=False)
    (folder / "config.yaml").write_text("method: [snas\n  broken")
    run = read_run(folder)
    assert run.config_text.startswith("method: [snas")
    assert run.planned_epochs is None
    assert "config.yaml" in run.warnings[0]


def test_yaml_builds_no_objects(make_run, tmp_path):
    folder = make_run(epochs=2, derived=False)
    victim = tmp_path / "victim"
    (folder / "config.yaml").write_text(f"a: !!python/object/apply:os.mkdir [{victim}]")
    assert "config.yaml" in read_run(folder).warnings[0]
    assert not victim.exists()


def test_a_training_without_result_is_known_by_its_folder(make_run):
    folder = make_run(epochs=2, planned=2)
    (folder / "train" / "random-3" / "result.json").unlink()
    training = next(t for t in read_run(folder).trainings if t.name == "random-3")
    assert training.kind == "random"
    assert training.result is None
    assert len(training.epochs) == 60


def test_what_is_no_run_folder_is_refused_with_advice(tmp_path):
    with pytest.raises(UserError, match="archgrad report RUN_FOLDER"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"it has none of config\.yaml"):
        read_run(tmp_path)
