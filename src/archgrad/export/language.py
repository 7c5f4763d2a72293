"""Export of a recurrent language model: one step as ONNX, and a folder that needs only PyTorch.

Both are read back and compared with the network on words of the text, the state carried from word to word.
T words, B texts, V words of the vocabulary, H units.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture, Edge
from archgrad.atomic import write_bytes, write_text
from archgrad.errors import WorkError
from archgrad.export.evaluation import evaluation, refuse_difference
from archgrad.export.language_file import LANGUAGE_MODEL
from archgrad.export.onnx import TOLERANCE, OnnxCheck, quiet, require_onnx, strip_metadata
from archgrad.export.standalone import StandaloneCheck
from archgrad.spaces.language_model import LanguageModel, Reading, Window

_READ_BACK = """
import sys
folder, inputs, results = sys.argv[1:]
sys.modules.update(archgrad=None, safetensors=None)
sys.path.insert(0, folder)
import torch
torch.set_num_threads(1)
from model import load
with torch.no_grad():
    torch.save(load()(torch.load(inputs, weights_only=True)), results)
"""


class Step(nn.Module):
    """One word: (words int64 [B], state [B, H]) -> (logits [B, V] of the next word, state [B, H])."""

    def __init__(self, network: LanguageModel):
        super().__init__()
        self.network = network

    def forward(self, words: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        reading = self.network(Window(words.unsqueeze(0), state))
        assert isinstance(reading, Reading)
        return reading.logits[0], reading.state


def export_step(network: LanguageModel, words: Tensor, path: Path) -> OnnxCheck:
    """Write one step of `network` as an ONNX file, compared on `words` [T, B], B at least 2.

    Inputs ``words`` [B] and ``state`` [B, H], which begins with zeros; outputs ``logits`` [B, V] and
    ``next_state`` [B, H].

    Raises:
        MissingExtra: onnx, onnxscript or onnxruntime is not installed.
        WorkError: ONNX Runtime's output differs from PyTorch's by more than `TOLERANCE`; nothing is
            written then.
    """
    require_onnx()
    import onnxruntime

    with evaluation(network), torch.no_grad():
        state = network.zero_state(words.shape[1])
        expected = network(Window(words, state))
        assert isinstance(expected, Reading)
        batch = torch.export.Dim("batch")
        with quiet():
            program: Any = torch.onnx.export(
                Step(network),
                (words[0], state),
                dynamo=True,
                dynamic_shapes=({0: batch}, {0: batch}),
                input_names=["words", "state"],
                output_names=["logits", "next_state"],
                external_data=False,
                verbose=False,
            )
    model = program.model_proto
    strip_metadata(model)
    data: bytes = model.SerializeToString()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    differences = []
    for texts in (words.shape[1], 1):
        now = state[:texts].numpy()
        for row, wanted in zip(words, expected.logits, strict=True):
            found, now = session.run(None, {"words": row[:texts].numpy(), "state": now})
            differences.append((torch.from_numpy(found) - wanted[:texts]).abs().max())
    difference = float(torch.stack(differences).max())
    refuse_difference(difference, TOLERANCE * float(expected.logits.abs().max()), "ONNX Runtime", path)
    write_bytes(path, data)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    return OnnxCheck(path, difference, words.numel(), opset, len(data))


def export_language(
    network: LanguageModel,
    architecture: Architecture,
    settings: Mapping[str, Any],
    vocabulary: Sequence[str],
    words: Tensor,
    folder: Path,
) -> StandaloneCheck:
    """Write model.py, weights.pt and vocabulary.txt, which need only PyTorch; compared on `words` [T, B].

    Raises:
        WorkError: the folder, read back without archgrad, does not compute what the network computes.
    """
    edges = [
        (edge.node, edge.source, candidate)
        for name, candidate in architecture.items()
        if candidate != "none" and (edge := Edge.parse(name)) is not None
    ]
    nodes = max(edge.node for name in architecture if (edge := Edge.parse(name)) is not None)
    output = list(settings.get("concat") or range(1, nodes + 1))
    text = LANGUAGE_MODEL.replace("{edges}", repr(edges)).replace("{nodes}", repr(nodes))
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("model.py", "weights.pt", "vocabulary.txt")]
    write_text(files[0], text.replace("{output}", repr(output)).replace("{digest}", architecture.digest))
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "weights.pt"
        torch.save({k: t.detach().cpu().clone() for k, t in network.state_dict().items()}, place)
        write_bytes(files[1], place.read_bytes())
        write_text(files[2], "\n".join(vocabulary) + "\n")
        inputs, results = Path(scratch) / "inputs.pt", Path(scratch) / "results.pt"
        torch.save(words, inputs)
        done = subprocess.run(
            [sys.executable, "-c", _READ_BACK, str(folder), str(inputs), str(results)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise WorkError(f"{files[0]} does not run by itself:\n{done.stderr.strip()[-2000:]}")
        found = torch.load(results, weights_only=True)
    with evaluation(network), torch.no_grad():
        expected = network(Window(words, network.zero_state(words.shape[1])))
    assert isinstance(expected, Reading)
    difference = float((found[0] - expected.logits).abs().max())
    refuse_difference(
        difference, 1e-5 * float(expected.logits.abs().max().clamp_min(1.0)), "model.py", folder
    )
    return StandaloneCheck(folder, tuple(files), difference)
