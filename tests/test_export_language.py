"""Exported recurrent networks: one step as ONNX, and a folder that runs without archgrad."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn

from archgrad.architecture import Architecture
from archgrad.choice import concrete
from archgrad.errors import WorkError
from archgrad.export import language
from archgrad.export.language import export_language, export_step
from archgrad.randomness import seeded_modules
from archgrad.spaces.language_model import LanguageModel, Reading, Window
from archgrad.spaces.rnn import darts_rnn

VOCABULARY = ["the", "cat", "sat", "<eos>", "<unk>", "caf\u00e9"]
CHOSEN = {
    "recurrent/1<-0": "tanh",
    "recurrent/2<-0": "none",
    "recurrent/2<-1": "relu",
    "recurrent/3<-0": "sigmoid",
    "recurrent/3<-1": "identity",
    "recurrent/3<-2": "none",
}


def network(**settings: Any) -> LanguageModel:
    with seeded_modules(1):
        found = concrete(darts_rnn, Architecture(CHOSEN), (5,), 6, hidden=7, nodes=3, **settings)
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.5, generator=torch.Generator().manual_seed(4))
    return cast(LanguageModel, found).eval()


def words(count: int = 9) -> torch.Tensor:
    return torch.randint(6, (count, 3), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("settings", [{}, {"concat": [1, 3]}], ids=["all nodes", "some nodes"])
def test_the_folder_computes_what_the_network_computes(tmp_path: Path, settings: dict[str, Any]) -> None:
    model = network(**settings)
    check = export_language(model, Architecture(CHOSEN), settings, VOCABULARY, words(), tmp_path / "out")
    assert check.largest_difference < 1e-5
    assert [f.name for f in check.files] == ["model.py", "weights.pt", "vocabulary.txt"]
    done = subprocess.run(
        [sys.executable, tmp_path / "out" / "model.py", "the", "caf\u00e9", "unheard"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        env={"PYTHONUTF8": "1", "PATH": ""},
    )
    lines = [line.split("  ") for line in done.stdout.splitlines()]
    reading = cast(Reading, model(Window(torch.tensor([[0], [5], [4]]), model.zero_state(1))))
    likely = torch.softmax(reading.logits[-1, 0], dim=0).topk(5)
    assert [name for _, name in lines] == [VOCABULARY[i] for i in likely.indices.tolist()]
    assert [float(p) for p, _ in lines] == pytest.approx(likely.values.tolist(), abs=1e-3)


def test_a_file_that_computes_something_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = network(), Architecture(CHOSEN), {}, VOCABULARY, words(), tmp_path / "out"
    monkeypatch.setattr(language, "LANGUAGE_MODEL", language.LANGUAGE_MODEL.replace("torch.tanh(new)", "new"))
    with pytest.raises(WorkError, match="differ"):
        export_language(*arguments)
    monkeypatch.setattr(language, "LANGUAGE_MODEL", "import archgrad")
    with pytest.raises(WorkError, match="does not run by itself"):
        export_language(*arguments)


def test_a_step_as_onnx_carries_the_state(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model = network()
    before = model(words(4).t())
    check = export_step(model, words(), tmp_path / "model.onnx")
    assert torch.equal(before, model(words(4).t()))  # tracing left the network as it was
    assert check.largest_difference < 1e-4
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["words", "state"]
    state = torch.zeros(5, 7).numpy()
    text = torch.randint(6, (4, 5), generator=torch.Generator().manual_seed(8))
    for row in text:
        logits, state = session.run(None, {"words": row.numpy(), "state": state})
    wanted = cast(Reading, model(Window(text, model.zero_state(5))))
    torch.testing.assert_close(torch.from_numpy(logits), wanted.logits[-1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.from_numpy(state), wanted.state, rtol=1e-4, atol=1e-5)
    assert str(tmp_path).encode() not in (tmp_path / "model.onnx").read_bytes()
