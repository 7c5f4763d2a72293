"""Run folders: whole files or none, appended lines, what goes wrong on disks."""

from __future__ import annotations

import errno
import json
import os
import signal
import threading

import pytest

from archgrad import atomic
from archgrad.errors import UserError
from archgrad.runs import Run, StopRequest, environment, finite


def test_a_new_run_has_its_environment_and_is_no_run_before_its_configuration(tmp_path):
    run = Run.create(tmp_path / "a" / "b")
    document = run.read_json("environment.json")
    assert {"archgrad", "torch", "python", "processor", "cores", "threads", "started"} <= set(document)
    with pytest.raises(UserError, match="holds no run"):
        Run.open(run.folder)
    run.write_config({"method": "gdas", "seed": 3})
    assert Run.open(run.folder).read_config() == {"method": "gdas", "seed": 3}


def test_no_host_name_is_recorded():
    text = json.dumps(environment())
    assert os.uname().nodename not in text or len(os.uname().nodename) < 4


def test_a_folder_that_holds_a_run_or_the_rest_of_one_is_refused(tmp_path):
    run = Run.create(tmp_path / "run")
    run.append("metrics.jsonl", {"epoch": 0})
    with pytest.raises(UserError, match=r"metrics\.jsonl of a run that lost its config\.yaml"):
        Run.create(run.folder)
    run.write_config({})
    with pytest.raises(UserError, match="--resume"):
        Run.create(run.folder)


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_a_file_in_place_of_a_folder_is_refused(name, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        Run.create(tmp_path / name)


def test_lines_are_appended_one_by_one_and_readable_at_once(tmp_path):
    run = Run(tmp_path)
    assert run.read_lines("metrics.jsonl") == []
    for epoch in range(3):
        run.append("metrics.jsonl", {"epoch": epoch, "loss": float("nan")})
        assert [line["epoch"] for line in run.read_lines("metrics.jsonl")] == list(range(epoch + 1))
    assert run.read_lines("metrics.jsonl")[0]["loss"] is None


@pytest.mark.parametrize("rubbish", [b'{"epoch": 2, "lo', b"5\n", b"null\n", b"\xff\xfe\n", b"[1, 2]\n"])
def test_lines_are_read_up_to_the_first_damaged_one(rubbish, tmp_path):
    run = Run(tmp_path)
    run.append("m.jsonl", {"epoch": 0})
    run.append("m.jsonl", {"epoch": 1})
    with run.path("m.jsonl").open("ab") as file:
        file.write(rubbish)
    assert [line["epoch"] for line in run.read_lines("m.jsonl")] == [0, 1]
    run.cut_lines("m.jsonl", 1)
    assert run.path("m.jsonl").read_text() == '{"epoch": 0}\n'


def full(*_args, **_kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_loses_nothing_and_says_so(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.write_json("best.json", {"epoch": 1})
    run.save_checkpoint(1, {"step": 1})
    monkeypatch.setattr(atomic.os, "fsync", full)
    for write in (
        lambda: run.write_json("best.json", {"epoch": 2}),
        lambda: run.write_bytes("x.bin", b"1"),
        lambda: run.save_checkpoint(2, {"step": 2}),
        lambda: run.append("m.jsonl", {"epoch": 0}),
    ):
        with pytest.raises(UserError, match="No space left on device"):
            write()
    monkeypatch.undo()
    assert run.read_json("best.json") == {"epoch": 1}
    assert run.load_checkpoint() == ({"step": 1}, [])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["best.json", "checkpoints", "m.jsonl"]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    def denied(*_args, **_kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path / "run"))

    monkeypatch.setattr("pathlib.Path.mkdir", denied)
    with pytest.raises(UserError, match=r"cannot write .*run: Permission denied.*--run"):
        Run.create(tmp_path / "run")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    atomic.write_text(tmp_path / "a", "old")

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(atomic.Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.yaml", b"a: [1"),
        ("config.yaml", b"\xff\xfe\x00"),
        ("config.yaml", b"- a\n"),
        ("config.yaml", b""),
        ("config.yaml", b"!!python/object/apply:os.system ['true']"),
    ],
)
def test_a_damaged_configuration_is_named(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml is damaged"):
        Run(tmp_path).read_config()


@pytest.mark.parametrize("content", [b"{", b"", b"[1]", b"\xff", b"5"])
def test_a_damaged_json_file_is_named(content, tmp_path):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.json is damaged"):
        Run(tmp_path).read_json("x.json")
    with pytest.raises(UserError, match=r"has no y\.json"):
        Run(tmp_path).read_json("y.json")
    (tmp_path / "z.json").mkdir()
    with pytest.raises(UserError, match="cannot read"):
        Run(tmp_path).read_json("z.json")


def test_numbers_that_json_cannot_hold_become_null():
    assert finite({"a": [float("inf"), (float("nan"), 1)], "b": "nan"}) == {
        "a": [None, [None, 1]],
        "b": "nan",
    }


def test_a_second_signal_stops_at_once_and_handlers_are_put_back():
    before = signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert stop.requested == ""
        signal.raise_signal(signal.SIGINT)
        assert stop.requested == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_the_main_thread_no_signal_is_set():
    seen = []

    def work():
        with StopRequest() as stop:
            seen.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [""]
