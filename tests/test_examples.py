"""Every file in examples/ runs as its first lines say, and does what it claims."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from archgrad.cli import main

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
TESTED = {"own_network.py", "own_data.py", "own_images_folder.py"}
TESTED |= {"own_choices.py", "own_sensor.py", "own_transformer.py"}  # in test_own_choices.py
TESTED |= {"detector.py"}  # in test_pyramid.py
SMALL = ["search.epochs=1", "space.channels=4"]


def run(folder: Path, *command: str, **variables: str) -> str:
    """What a command prints; it runs in `folder` on one thread and must succeed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def archgrad(tmp_path, monkeypatch) -> Callable[..., dict]:
    """The command line in an empty folder, with the examples importable: the JSON document it prints."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(EXAMPLES))

    def verb(*arguments: str) -> dict:
        done = CliRunner().invoke(main, [*arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    return verb


def read(file: Path) -> dict:
    return json.loads(file.read_text(encoding="utf-8"))


def test_every_example_is_tested():
    assert {file.name for file in EXAMPLES.glob("*.py")} == TESTED


def test_a_network_is_thirty_lines():
    assert len((EXAMPLES / "own_network.py").read_text(encoding="utf-8").splitlines()) <= 30


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> tuple[Path, str]:
    """The run that own_network.py makes, and what it prints."""
    folder = tmp_path_factory.mktemp("own_network")
    return folder / "run", run(folder, sys.executable, str(EXAMPLES / "own_network.py"), "run")


def test_own_network_goes_from_search_to_report(network):
    folder, printed = network
    assert set(read(folder / "architecture.json")["choices"]) == {"block0", "block1", "block2"}
    for name in ("derived", "random-0", "residual"):
        result = read(folder / "train" / name / "result.json")
        assert result["test_accuracy"] > 0.5, "ten classes; chance is 0.1"
        assert f"{name}: {result['test_accuracy']:.1%} of the test images" in printed
    assert (folder / "export" / "model.onnx").stat().st_size > 1000
    assert (folder / "report.html").stat().st_size > 1000


def test_the_derived_network_has_the_chosen_candidates_only(network):
    folder, _ = network
    channels, classes = 16, 10
    size = {"conv_3x3": 9 * channels**2 + channels, "conv_1x1": channels**2 + channels, "skip": 0}
    chosen = read(folder / "architecture.json")["choices"].values()
    fixed = 9 * channels + channels + 3 * 2 * channels + 4 * channels * classes + classes
    wanted = fixed + sum(size[candidate] for candidate in chosen)
    assert read(folder / "derivation.json")["parameters"] == wanted


def test_its_export_classifies_digits_without_archgrad_and_without_the_example(network):
    folder, _ = network
    program = """
import sys
sys.modules["archgrad"] = sys.modules["own_network"] = None  # importing either fails
import torch
from sklearn.datasets import load_digits
from model import MEAN, STD, load
pixels, labels = load_digits(return_X_y=True)
images = (torch.tensor(pixels / 16, dtype=torch.float32).reshape(-1, 1, 8, 8) - MEAN[0]) / STD[0]
print(float((load()(images).argmax(dim=1) == torch.tensor(labels)).float().mean()))
"""
    accuracy = float(run(folder / "export" / "standalone", sys.executable, "-c", program))
    assert accuracy > 0.5, "chance is 0.1"


def test_own_network_from_the_command_line(tmp_path):
    program = (sys.executable, "-c", "from archgrad.cli import main; main()")
    path = os.pathsep.join(filter(None, [str(EXAMPLES), os.environ.get("PYTHONPATH")]))
    space = ("--space", "own_network:OwnNetwork", "--method", "gdas", "--json")
    found = json.loads(run(tmp_path, *program, "search", "--run", "run", *space, *SMALL, PYTHONPATH=path))
    assert set(found["architecture"]) == {"block0", "block1", "block2"}


def test_own_data(tmp_path):
    printed = run(tmp_path, sys.executable, str(EXAMPLES / "own_data.py"), "run")
    data = read(tmp_path / "run" / "data.json")
    assert data["classes"][3] == "digit 3"
    assert data["shape"] == [1, 8, 8]
    assert data["images"]["weights"] + data["images"]["architecture"] == 1400, "the first data set, whole"
    result = read(tmp_path / "run" / "train" / "derived" / "result.json")
    assert result["test_images"] == 397, "the second data set, whole"
    assert result["test_accuracy"] > 0.3
    assert f"test accuracy {result['test_accuracy']:.1%} on 397 images" in printed


def test_own_data_by_name(archgrad):
    archgrad("search", "--run", "run", "--data", "own_data:digits_pair", *SMALL)
    archgrad("derive", "run")
    assert archgrad("train", "run", "train.epochs=1")["derived"]["test_images"] == 397


def test_own_images_folder_as_its_docstring_says(tmp_path, archgrad):
    printed = run(tmp_path, sys.executable, str(EXAMPLES / "own_images_folder.py"), "pictures")
    assert "1797 pictures of 10 classes" in printed
    given = ("--data", "folder", "--data-path", "pictures", "--run", "runs/pictures")
    text = (EXAMPLES / "own_images_folder.py").read_text(encoding="utf-8")
    assert f"archgrad search {' '.join(given)}" in text, "what runs here is what is written there"
    small = ["search.batch_size=256", "space.channels=2", "search.epochs=1"]
    archgrad("search", *given, *small)
    data = read(tmp_path / "runs" / "pictures" / "data.json")
    assert data["shape"] == [1, 16, 16]
    assert sum(data["images"].values()) == 1797
    assert data["classes"][0] == "digit-0"
