"""`archgrad channels` from images to a static network: files, controls, resuming, wrong input, export."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from archgrad.cli import main
from archgrad.datasets.images import MemoryImages
from archgrad.datasets.normalisation import Normalisation
from archgrad.errors import ConfigError, Stopped, UserError
from archgrad.frequency.network import FrequencyNetwork
from archgrad.frequency.page import heat_map, page, table, verdict
from archgrad.progress import Silent
from archgrad.randomness import Streams
from archgrad.runs import Run
from archgrad.verbs.channels import channels_run
from archgrad.verbs.contents import read_tensors

TINY = {
    "seed": 3,
    "train": {"epochs": 2, "batch_size": 40},
    "device": {"name": "cpu", "threads": 1},
    "frequency": {"width": 4, "stride": 4},
}
NAMES = ["selected-5", "random-5-0", "random-5-1", "lowest-5", "all", "learned-5"]


class Said(Silent):
    def __init__(self):
        self.lines, self.titles = [], []

    def say(self, line):
        self.lines.append(line)

    def start(self, title, total, done=0):
        self.titles.append((title, done))


def timeless(document):
    text = json.dumps(document)
    return json.loads(re.sub(r'"seconds": [\d.e-]+', '"seconds": 0', text))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, few_digits):
    folder = tmp_path_factory.mktemp("channels") / "run"
    return folder, channels_run(folder, TINY, keep=5, controls=2, data=few_digits)


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished[0], tmp_path / "run")
    return tmp_path / "run"


def test_what_is_written(finished, few_digits):
    folder, document = finished
    assert json.loads((folder / "selection-5.json").read_text()) == document
    assert [document["selected"]["name"], *(c["name"] for c in document["controls"])] == NAMES
    assert len(document["channels"]) == 5
    assert set(document["channels"]) == set(document["ranking"][:5])
    assert len(document["probability"]) == len(document["opened"]) == 64
    assert document["gate_images"] == 200
    assert 0 < document["gates"]["expected_open"] < 64
    for name in (*NAMES, "gates"):
        result = json.loads((folder / f"train/{name}/result.json").read_text())
        assert result["test_images"] == 100
        assert len((folder / f"train/{name}/metrics.jsonl").read_text().splitlines()) == 2
        assert not list((folder / f"train/{name}/checkpoints").glob("*"))
    lines = [json.loads(text) for text in (folder / "train/gates/metrics.jsonl").read_text().splitlines()]
    assert all(0 < line["open_gates"] < 64 for line in lines)
    assert lines[1]["open_gates"] < lines[0]["open_gates"]
    assert "open_gates" not in (folder / "train/all/metrics.jsonl").read_text()
    counts = {r["kind"]: r for r in (document["selected"], *document["controls"])}
    for kind in ("random", "lowest"):
        assert counts[kind]["parameters"] == counts["selected"]["parameters"]
        assert counts[kind]["macs"] == counts["selected"]["macs"]
    assert counts["all"]["macs"] > counts["selected"]["macs"]
    # 5 filters of 8×8 with their BatchNorm; the colour of a grey image is one more multiplication a pixel
    assert counts["learned"]["parameters"] == counts["selected"]["parameters"] + 5 * 64 + 10
    assert counts["learned"]["macs"] == counts["selected"]["macs"] - 64
    assert counts["lowest"]["settings"]["channels"] == [0, 1, 8, 9, 16]  # the zigzag


def test_the_saved_network_is_rebuilt_from_its_result(finished, few_digits):
    folder, document = finished
    result = document["selected"]
    normalisation = Normalisation(tuple(result["mean"]), tuple(result["std"]))
    network = FrequencyNetwork(tuple(result["shape"]), 10, normalisation, **result["settings"])
    network.load_state_dict(read_tensors(Run(folder), "train/selected-5/weights.safetensors"))
    x = few_digits.test.pixels.float() / 255
    x = (x - result["mean"][0]) / result["std"][0]
    with torch.no_grad():
        found = network.eval()(x).argmax(1)
    assert float((found == few_digits.test.labels).float().mean()) == pytest.approx(result["test_accuracy"])
    statistics = json.loads((folder / "statistics.json").read_text())
    chosen = document["channels"]
    assert network.standardise.mean.tolist() == pytest.approx([statistics["mean"][c] for c in chosen])
    deviation = [statistics["deviation"][c] for c in chosen]
    assert network.standardise.deviation.tolist() == pytest.approx(deviation)
    assert min(deviation) > 1.5  # grey levels


def test_the_gates_accuracy_is_that_without_noise(finished, few_digits):
    folder, document = finished
    result = document["gates"]
    normalisation = Normalisation(tuple(result["mean"]), tuple(result["std"]))
    network = FrequencyNetwork(tuple(result["shape"]), 10, normalisation, **result["settings"])
    network.load_state_dict(read_tensors(Run(folder), "train/gates/weights.safetensors"))
    x = few_digits.test.pixels.float() / 255
    with torch.no_grad():
        logits = network.eval()((x - result["mean"][0]) / result["std"][0])
    loss = torch.nn.functional.cross_entropy(logits, few_digits.test.labels)
    assert float(loss) == pytest.approx(result["test_loss"], rel=1e-5)


def test_the_same_call_keeps_everything_and_settings_may_be_left_out(run, finished, few_digits):
    said = Said()
    again = channels_run(run, keep=5, controls=2, data=few_digits, progress=said)
    assert again == finished[1]
    assert not said.titles
    assert len([line for line in said.lines if "trained already" in line]) == 7


def test_another_number_reuses_the_gates(run, finished, few_digits):
    said = Said()
    document = channels_run(run, keep=3, controls=0, data=few_digits, progress=said)
    assert [title for title, _ in said.titles] == ["train selected-3"]
    assert document["channels"] == sorted(finished[1]["ranking"][:3])
    assert (run / "selection-5.json").exists()
    level = sorted(document["probability"])[-4]
    by_share = channels_run(run, threshold=level, controls=0, data=few_digits)
    assert len(by_share["channels"]) == 4


def test_other_settings_are_refused_and_again_begins_anew(run, finished, few_digits):
    other = {"frequency": {"strength": 0.5}, "train": {"epochs": 1}}
    with pytest.raises(
        UserError, match=r"(?s)other settings;.*train\.epochs: the run has 2, you gave 1.*strength"
    ) as caught:
        channels_run(run, other, keep=5, data=few_digits)
    assert "--again" in str(caught.value)
    document = channels_run(run, other, keep=2, controls=0, data=few_digits, again=True)
    assert document["gates"]["epochs"] == 1
    assert not (run / "train/selected-5/result.json").exists()
    assert not (run / "selection-5.json").exists()


def test_a_stop_in_the_gates_or_after_resumes_to_the_same_numbers(finished, few_digits, tmp_path):
    class Stopping(Said):
        def update(self, done, numbers):
            if self.titles[-1][0] in ("train gates", "train selected-5") and done == 4 > self.titles[-1][1]:
                os.kill(os.getpid(), signal.SIGTERM)

    folder, said = tmp_path / "run", Stopping()
    for place in ("gates", "selected-5"):
        with pytest.raises(Stopped, match=rf"of {place}; go on with\n  archgrad channels --run"):
            channels_run(folder, TINY, keep=5, controls=2, data=few_digits, progress=said)
    document = channels_run(folder, keep=5, controls=2, data=few_digits, progress=said)
    assert ("train gates", 4) in said.titles
    assert not list(folder.glob("train/*/checkpoints/*"))
    assert timeless(document) == timeless(finished[1])


def test_the_test_images_change_only_test_numbers(finished, few_digits, tmp_path):
    noise = torch.randint(0, 256, (100, 1, 8, 8), generator=Streams(0).generator("noise")).to(torch.uint8)
    poisoned = replace(few_digits, test=MemoryImages(noise, few_digits.test.labels))
    channels_run(tmp_path / "run", TINY, keep=5, controls=2, data=poisoned)
    clean, other = finished[0], tmp_path / "run"
    for name in (*NAMES, "gates"):
        file = f"train/{name}/weights.safetensors"
        assert (clean / file).read_bytes() == (other / file).read_bytes()
    one, two = (json.loads((f / "selection-5.json").read_text()) for f in (clean, other))
    assert one["probability"] == two["probability"]
    assert one["selected"]["test_accuracy"] > two["selected"]["test_accuracy"]


@pytest.mark.parametrize(
    ("settings", "amount", "message"),
    [
        ({}, {"keep": 65}, "keep: 1 to 64 channels, as these images have 64; got 65"),
        ({}, {}, "either keep .* or threshold"),
        ({}, {"threshold": 0.0}, "threshold: a probability above 0"),
        ({"frequency": {"stride": 5}}, {"keep": 5}, r"frequency\.stride: .*8, 4 or 2, got 5"),
        ({"frequency": {"strenght": 1}}, {"keep": 5}, "unknown key.*did you mean 'strength'"),
        (
            {"frequency": {"strength": -1.0}},
            {"keep": 5},
            r"frequency\.strength: .*equal to 0",
        ),
        ({"frequency": 3}, {"keep": 5}, "frequency: a section"),
        ({"search": {"epochs": 2}}, {"keep": 5}, "search: a channel selection has no such section"),
        ({"train": {"drop_path": 0.1}}, {"keep": 5}, r"train\.drop_path: .*have none"),
        ({"train": {"epoch": 1}}, {"keep": 5}, r"train\.epoch: unknown key"),
        (
            {"data": {"validation": 0.3}},
            {"keep": 5},
            r"data\.validation: gates and weights learn",
        ),
        ({"data": {"test": 0.3}}, {"keep": 5}, r"data\.test: these data have test images of their own"),
        ({"train": {"batch_size": 300}}, {"keep": 5}, r"train\.batch_size: 300 is larger"),
    ],
)
def test_wrong_input_is_refused_before_any_training(settings, amount, message, few_digits, tmp_path):
    with pytest.raises(UserError, match=message):
        channels_run(tmp_path / "run", settings, data=few_digits, **amount)
    assert not (tmp_path / "run").exists()


def test_folders_and_images_that_do_not_fit_are_refused(few_digits, tmp_path, finished_run):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else than a channel selection"):
        channels_run(tmp_path / "other", TINY, keep=5, data=few_digits)
    with pytest.raises(UserError, match="already holds a run"):
        channels_run(finished_run, TINY, keep=5, data=few_digits)
    small = replace(
        few_digits,
        train=MemoryImages(few_digits.train.pixels[..., :6, :6], few_digits.train.labels),
        test=MemoryImages(few_digits.test.pixels[..., :6, :6], few_digits.test.labels),
    )
    with pytest.raises(UserError, match="6×6 are smaller than a block of 8×8"):
        channels_run(tmp_path / "small", {**TINY, "data": {"crop": 1}}, keep=5, data=small)
    assert not (tmp_path / "small").exists()


def test_settings_that_change_the_data_under_a_run_are_seen(run, few_digits):
    fewer = MemoryImages(few_digits.train.pixels[:150], few_digits.train.labels[:150])
    with pytest.raises(UserError, match="the data differ"):
        channels_run(run, keep=5, data=replace(few_digits, train=fewer))


def test_noise_in_evaluation_is_the_published_behaviour_and_repeatable(few_digits, tmp_path):
    frequency = {**TINY["frequency"], "noise_in_evaluation": True, "open_at_first": 0.5}
    settings = {**TINY, "frequency": frequency}
    results = [
        channels_run(tmp_path / str(i), settings, keep=5, controls=0, data=few_digits)["gates"]
        for i in range(2)
    ]
    assert timeless(results[0]) == timeless(results[1])


def test_the_static_network_is_exported_to_onnx(run, few_digits):
    pytest.importorskip("onnxruntime")
    document = channels_run(run, keep=5, controls=0, onnx=True, data=few_digits)
    assert (run / "export/model.onnx").stat().st_size == document["onnx"]["size_bytes"]
    assert document["onnx"]["largest_difference"] < 1e-3


def test_the_command_line(tmp_path):
    folder = tmp_path / "run"
    arguments = [
        *("channels", "--data", "digits", "--run", str(folder), "--keep", "4", "--controls", "1"),
        *("train.epochs=1", "frequency.width=2", "frequency.stride=8", "device.name=cpu", "device.threads=1"),
    ]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, done.stderr
    assert "selected-4" in done.stdout
    assert "learned-4" in done.stdout
    assert str(folder / "selection-4.html") in done.stdout
    again = CliRunner().invoke(main, [*arguments, "--json"])
    assert json.loads(again.stdout) == json.loads((folder / "selection-4.json").read_text())
    wrong = CliRunner().invoke(main, ["channels", "--run", str(folder), "--keep", "65"])
    assert wrong.exit_code == 2
    assert "1 to 64 channels" in wrong.stderr


def test_the_page_and_the_figure_say_what_the_document_says(finished):
    _, document = finished
    text = table(document)
    for name in (*NAMES, "gates"):
        assert name in text
    assert text.endswith(verdict(document))
    figure = ET.fromstring(heat_map(document))
    space = "{http://www.w3.org/2000/svg}"
    titles = [t.text for t in figure.iter(f"{space}title")]
    assert titles[9] == f"grey 1,1: {document['probability'][9]:.1%}"
    frames = [r for r in figure.iter(f"{space}rect") if r.get("fill") == "none"]
    assert len(titles) == 64
    cells = [r for r in figure.iter(f"{space}rect") if r.find(f"{space}title") is not None]
    assert [(float(f.get("x")) - 1.5, float(f.get("y")) - 1.5) for f in frames] == [
        (float(cells[c].get("x")), float(cells[c].get("y"))) for c in document["channels"]
    ]
    html = page(document)
    assert html.count("<tr") == 1 + 7
    assert "<script" not in html
    hostile = page({**document, "data": "<b>x</b>"})
    assert "<b>x" not in hostile


def test_the_verdict_is_honest():
    def of(selected, random, low):
        rows = [{"kind": "random", "test_accuracy": r} for r in random]
        controls = [*rows, {"kind": "lowest", "test_accuracy": low}] if rows else []
        return verdict({"selected": {"test_accuracy": selected, "test_images": 10_000}, "controls": controls})

    assert of(0.9, [0.5, 0.51], 0.6).startswith("the selection beat random subsets and is above the lowest")
    assert "beat random subsets and is level with" in of(0.5567, [0.5096, 0.4783], 0.5533)
    assert "beat random subsets and is BELOW" in of(0.9, [0.5, 0.51], 0.95)
    assert "did not clearly beat random subsets" in of(0.52, [0.5, 0.51], 0.6)
    assert "did NOT beat random subsets" in of(0.4, [0.5, 0.51], 0.6)
    # two accuracies of 50 % on 10,000 images: the error of their difference is 0.71 points
    assert "level" in of(0.514, [0.3], 0.5)
    assert "above" in of(0.5145, [0.3], 0.5)
    assert "no controls" in of(0.4, [], 0)


def test_all_problems_come_at_once():
    with pytest.raises(ConfigError) as caught:
        channels_run("unused", {"frequency": {"strenght": 1, "widht": 2}}, keep=5)
    assert len(caught.value.problems) == 2
