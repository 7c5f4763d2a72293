"""The command line: help, speed, one JSON document, exit codes, progress; and what the wheel holds."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from archgrad.catalogue import FAMILIES
from archgrad.cli import main
from archgrad.progress import Bar, Lines, Shown, Silent, clock

ROOT = Path(__file__).resolve().parents[1]
VERBS = [
    "search", "derive", "train", "export", "report", "doctor", "watch", "track", "channels", "count", "draw",
    "sweep", "experiment", "compare", "latency", "lab", "list", "demo",
]  # fmt: skip
QUICK = ["search.epochs=1", "space.channels=2", "space.stages=2", "device.threads=1", "device.name=cpu"]


def call(*arguments):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture
def run(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def test_the_verbs():
    assert list(main.commands) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb):
    result = call(verb, "--help")
    assert result.exit_code == 0
    assert "Example:" in result.stdout
    assert f"archgrad {verb}" in result.stdout.partition("Example:")[2]
    assert "--json" in result.stdout


def test_the_examples_in_the_help_are_valid_commands(monkeypatch, tmp_path):
    """Their options and overrides are parsed and checked; the work behind them is cut off."""
    seen = []
    for name in ("search_run", "derive_run", "train_run", "export_run", "report_run"):
        monkeypatch.setattr(f"archgrad.verbs.{name}", lambda *a, _n=name, **k: seen.append(_n) or exit(0))
    monkeypatch.setattr(
        "archgrad.verbs.channels.channels_run", lambda *a, **k: seen.append("channels") or exit(0)
    )
    for module, name in (
        ("count", "count_genotype"),
        ("draw", "draw_genotype"),
        ("genotype", "genotype_run"),
    ):
        monkeypatch.setattr(
            f"archgrad.verbs.{module}.{name}", lambda *a, _n=name, **k: seen.append(_n) or exit(0)
        )
    monkeypatch.setattr(
        "archgrad.verbs.sweep.sweep_landscape", lambda *a, **k: seen.append("sweep") or exit(0)
    )
    monkeypatch.setattr(
        "archgrad.verbs.sweep_networks.sweep_networks", lambda *a, **k: seen.append("sweep") or exit(0)
    )
    for name in ("target_of_run", "target_of_words", "target_of_data"):
        monkeypatch.setattr(
            f"archgrad.verbs.latency.{name}", lambda *a, **k: seen.append("latency") or exit(0)
        )
    monkeypatch.setattr(
        "archgrad.latency.report.published_document", lambda *a: seen.append("latency") or exit(0)
    )
    monkeypatch.setattr("archgrad.verbs.doctor.doctor_run", lambda *a: seen.append("doctor") or exit(0))
    monkeypatch.setattr("archgrad.watch.server.watch_run", lambda *a, **k: seen.append("watch") or exit(0))
    for module, name in (
        ("track", "track_run"),
        ("experiment", "experiment_run"),
        ("compare", "compare_folders"),
        ("latency_whole", "measure_derived"),
    ):
        monkeypatch.setattr(
            f"archgrad.verbs.{module}.{name}", lambda *a, _n=name, **k: seen.append(_n) or exit(0)
        )
    monkeypatch.setattr("archgrad.verbs.lab.lab_run", lambda *a, **k: seen.append("lab") or exit(0))
    monkeypatch.setattr("archgrad.demo.run_demo", lambda *a, **k: seen.append("demo") or exit(0))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos.yaml").write_text("data: {name: digits}\n")  # what an example gives as --config
    lines = []
    for verb in VERBS:
        text = call(verb, "--help").stdout.partition("Example:")[2].partition("Options:")[0]
        lines += [line.strip() for line in text.splitlines() if line.strip().startswith("archgrad ")]
    assert len(lines) >= 9
    for line in lines:
        assert call(*line.split()[1:]).exit_code == 0, line
    assert len(seen) == len(lines) - 1  # all but `list`


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["--version"], ["search", "--help"]])
def test_help_and_list_are_fast_and_import_no_torch(arguments):
    code = (
        "import sys, time; t = time.perf_counter()\n"
        "from archgrad.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'plotly', 'onnx', 'PIL', 'rich'} & set(sys.modules)\n"
        "print(f'{time.perf_counter() - t:.3f}', sorted(heavy), file=sys.stderr)"
    )
    seconds = []
    for _ in range(3):  # the best of three: the machine may be busy
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        took, heavy = done.stderr.strip().splitlines()[-1].split(" ", 1)
        assert heavy == "[]"
        seconds.append(float(took))
    assert min(seconds) < 0.5


LAB = [
    "lab",
    "--landscape",
    "pairwise",
    "landscape.choices=3",
    "--seeds",
    "9",
    "--steps",
    "5",
    "--draws",
    "50",
]


def test_the_laboratory_prints_tables_and_writes_files(tmp_path):
    out = tmp_path / "lab"
    shown = call(*LAB, "--samplers", "softmax,reinmax", "--out", str(out))
    assert shown.exit_code == 0, shown.stderr
    assert "estimators at 'leaning' logits" in shown.stdout
    assert "least regret:" in shown.stdout
    assert {f.name for f in out.iterdir()} >= {"lab.json", "lab.html", "estimators.csv", "searches.csv"}
    again = call(*LAB, "--methods", "gdas", "--study", "searches", "--out", str(out), "--json")
    document = json.loads(again.stdout)
    assert [o["name"] for o in document["searches"]["outcomes"]] == ["gdas"]
    assert json.loads((out / "lab.json").read_text()) == document


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--samplers", "reinmx"], "did you mean 'reinmax'"),
        (["--samplers", "softmax", "--schedules", "linear:1"], "linear:START:END"),
        (["--samplers", "softmax", "--study", "serches"], "unknown study"),
        (["--samplers", "softmax", "noise.name=additve"], "did you mean 'additive'"),
        (["--samplers", "softmax", "architecture.learning_rate=-1"], "architecture.learning_rate"),
    ],
)
def test_wrong_input_to_the_laboratory(wrong, message, tmp_path):
    result = call(*LAB, *wrong, "--out", str(tmp_path / "lab"))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "lab").exists()


def test_list_names_everything_and_one_family():
    document = json.loads(call("list", "--json").stdout)
    assert list(document) == list(FAMILIES)
    for family, rows in FAMILIES.items():
        assert [entry["name"] for entry in document[family]] == list(rows)
        assert all(entry["sentence"] for entry in document[family])
    assert list(json.loads(call("list", "samplers", "--json").stdout)) == ["samplers"]
    text = call("list").stdout
    assert all(name in text for rows in FAMILIES.values() for name in rows)


def test_search_prints_one_document_and_its_progress_on_standard_error(tmp_path):
    result = call("search", "--run", tmp_path / "r", "--data", "digits", "--seed", 3, *QUICK, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["epochs"] == 1
    assert document["run"] == str(tmp_path / "r")
    assert set(document) >= {"valid_accuracy", "entropy_mean", "architecture", "best", "seconds"}
    line = next(x for x in result.stderr.splitlines() if x.startswith("search: "))
    for part in ("loss", "accuracy", "τ", "entropy", "left"):
        assert part in line
    # the same in words
    again = call("search", "--run", tmp_path / "r", "--resume")
    assert again.exit_code == 0
    assert f"next: archgrad derive {tmp_path / 'r'}" in again.stdout
    assert (tmp_path / "r/config.yaml").read_text().count("seed: 3") == 1


def test_options_overrides_and_file_have_their_order(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("method: darts\nseed: 1\nsearch: {epochs: 5}\nspace: {name: nasbench201, stages: 1}\n")
    arguments = ["--config", file, "--seed", 2, *QUICK[:1], "space.channels=2", "device.threads=1"]
    result = call("search", "--run", tmp_path / "r", *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    text = (tmp_path / "r/config.yaml").read_text()
    for line in ("method: darts", "seed: 2", "epochs: 1", "stages: 1"):
        assert line in text


@pytest.mark.parametrize("verb", ["derive", "train", "report"])
def test_the_other_verbs_print_one_document(verb, run):
    result = call(verb, run, "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    keys = {"derive": {"architecture", "choices", "warnings", "macs"}, "train": {"derived", "controls"}}
    assert keys.get(verb, {"report"}) <= set(document)
    assert call(verb, run).exit_code == 0


def test_export_prints_one_document_and_can_leave_out_onnx(run):
    result = call("export", run, "--no-onnx", "--json")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["onnx"] is None
    assert document["standalone"]["largest_difference"] < 1e-4
    assert not (run / "export/model.onnx").exists()
    assert Path(document["standalone"]["folder"], "predict.py").exists()


def test_every_verb_reads_an_unfinished_run(tmp_path, tiny, few_digits):
    from archgrad.errors import Stopped
    from archgrad.verbs import search_run

    class Stop(Silent):
        def update(self, done, numbers):
            if done == 8:
                os.kill(os.getpid(), 2)

    with pytest.raises(Stopped):
        search_run(tiny(), tmp_path / "r", data=few_digits, progress=Stop())
    derived = call("derive", tmp_path / "r", "--json")
    assert derived.exit_code == 0, derived.stderr
    assert "not finished" in json.loads(derived.stdout)["warnings"][0]
    assert call("derive", tmp_path / "r", "--best").exit_code == 0
    assert call("report", tmp_path / "r").exit_code == 0
    train = call("train", tmp_path / "r")
    assert train.exit_code == 2  # its images were given in Python
    assert "given in Python" in train.stderr


# ---- progress


def test_lines_show_the_first_and_the_last_state_and_the_time_left(capsys):
    lines = Lines()
    with Shown(lines, "search", 10, 2):
        for done in range(3, 11):
            lines.update(done, f"loss {done}")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0].startswith("search: 3/10  loss 3")
    assert err.splitlines()[-1] == "search: 10/10  loss 10  0:00 left"


def test_a_bar_on_a_terminal_shows_the_numbers(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    from archgrad.progress import for_this_terminal

    bar = for_this_terminal()
    assert isinstance(bar, Bar)
    with Shown(bar, "search", 10):
        bar.update(4, "loss 1.25  τ 0.5  entropy 1.1")
        bar.say("a line that stays [brackets]")
    with Shown(bar, "train derived", 3):  # a second step on the same display
        bar.update(3, "loss 0.5")
    text = screen.getvalue()
    for part in ("search", "4/10", "loss 1.25", "τ 0.5", "entropy 1.1", "[brackets]", "train derived", "3/3"):
        assert part in text, part


def test_a_display_ends_when_its_step_raises(capsys):
    lines = Lines()

    def fail():
        with Shown(lines, "search", 2):
            lines.update(1, "a")
            lines.update(2, "b")
            raise ValueError("oops")

    with pytest.raises(ValueError, match="oops"):
        fail()
    assert "2/2  b" in capsys.readouterr().err


def test_clock():
    assert [clock(s) for s in (0, 59.6, 3600)] == ["0:00", "1:00", "1:00:00"]


# ---- the demo's way of keeping what was there


def test_the_demo_moves_an_old_run_aside(tmp_path, monkeypatch):
    from archgrad import demo

    monkeypatch.setattr(demo, "search_run", lambda *a, **k: exit(3))
    for number in (1, 2):
        (tmp_path / "demo").mkdir(exist_ok=True)
        (tmp_path / "demo/config.yaml").write_text(f"seed: {number}")
        result = call("demo", "--run", tmp_path / "demo")
        assert "moved to" in result.stderr
        assert (tmp_path / f"demo-{number}/config.yaml").read_text() == f"seed: {number}"


# ---- the package


def test_the_wheel_holds_every_file_of_the_package_and_nothing_else(tmp_path):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("hatchling is not installed, and fetching it needs the network")
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source],
        check=True,
        capture_output=True,
    )
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = {n for n in names if n.startswith("archgrad/")}
    files = {
        str(p.relative_to(source / "src"))
        for p in (source / "src/archgrad").rglob("*")
        if p.is_file() and p.suffix != ".pyc"
    }
    assert package == files
    assert "archgrad/py.typed" in package
    for data in ("page.css", "page.js", "page.html.jinja"):
        assert any(n.endswith(f"/{data}") for n in package), data
    assert all(".dist-info/" in n for n in names - package)
