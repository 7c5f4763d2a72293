"""Export to a folder that needs only PyTorch: model.py, weights, architecture and predict.py.

model.py is the source of the space with its decisions taken (`closure`). What was written is read
back by a fresh interpreter that cannot import archgrad, and compared with the network. B C H W.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from archgrad.architecture import Architecture
from archgrad.atomic import write_bytes
from archgrad.choice import concrete
from archgrad.errors import UserError, WorkError
from archgrad.export.candidates import Candidates
from archgrad.export.evaluation import comparison_images, evaluation, outputs, refuse_difference
from archgrad.export.model_file import ModelText, model_text, predict_text
from archgrad.randomness import seeded_modules

TOLERANCE = 1e-6
"""Largest allowed difference, relative to the largest absolute output if that is above 1; 0 is expected."""

_SAFETENSORS_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}

# The packages whose source was copied are made unimportable, so a forgotten import cannot pass.
_READ_BACK = """
import sys
folder, inputs, results, threads, *blocked = sys.argv[1:]
sys.modules.update(dict.fromkeys(blocked))
sys.path.insert(0, folder)
import torch
torch.set_num_threads(int(threads))
from model import load
with torch.no_grad():
    torch.save(load()(torch.load(inputs, weights_only=True)), results)
"""


class StandaloneCheck(NamedTuple):
    """What was written and how far the re-imported model is from the network.

    folder: where the files are.
    files: model.py, weights.safetensors, architecture.json, predict.py.
    largest_difference: of any output, absolute, over random and real images.
    """

    folder: Path
    files: tuple[Path, ...]
    largest_difference: float


def export_standalone(
    network: nn.Module,
    builder: Callable[..., nn.Module],
    architecture: Architecture,
    shape: tuple[int, int, int],
    classes: Sequence[str],
    settings: Mapping[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    folder: Path,
    real_images: Tensor | None,
) -> StandaloneCheck:
    """Write the stand-alone folder of `network` and check it in an interpreter without archgrad.

    Args:
        network: ``concrete(builder, architecture, shape, len(classes), **settings)``, trained; its
            training flags and device are left as they were.
        builder: the space: a top-level function or class of a module.
        architecture: choice -> candidate.
        shape: (C, H, W) of an image.
        classes: names of the classes, in the order of the outputs.
        settings: the builder's settings; numbers, strings, booleans, None and containers of these.
        mean: of each channel, images in [0, 1].
        std: standard deviation of each channel, the same way.
        folder: created if missing; files of the same names are replaced.
        real_images: normalised images [N, C, H, W] to compare on besides random ones, or None.

    Raises:
        UserError: the arguments do not describe `network`, or the space's source cannot be copied.
        WorkError: the files do not run or compute something else; nothing is written to `folder` then.
    """
    if not len(mean) == len(std) == shape[0] or not all(s > 0 for s in std):
        raise UserError(
            f"mean and std need one number for each of the {shape[0]} channels, std above 0; got "
            f"mean {tuple(mean)}, std {tuple(std)}"
        )
    images = comparison_images(shape, real_images)
    with evaluation(network):
        expected = outputs(network, images)
        weights = _weights(network)
    candidates = _watched(builder, architecture, shape, len(classes), settings, weights)
    dtypes = {_SAFETENSORS_NAMES[t.dtype]: str(t.dtype).removeprefix("torch.") for t in weights.values()}
    model = model_text(builder, candidates, architecture, shape, classes, settings, mean, std, dtypes)
    files = {
        "model.py": model.text.encode(),
        "weights.safetensors": _safetensors(weights),
        "architecture.json": architecture.to_json().encode(),
        "predict.py": predict_text(shape).encode(),
    }
    found = _read_back(files, images, model)
    difference = float((found - expected).abs().max())
    allowed = TOLERANCE * max(1.0, float(expected.abs().max()))
    refuse_difference(difference, allowed, "the stand-alone model", folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        write_bytes(folder / name, data)
    return StandaloneCheck(folder, tuple(folder / name for name in files), difference)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers on the host, each with its own memory (tied ones are written twice)."""
    weights = {}
    for name, tensor in network.state_dict().items():
        if not isinstance(tensor, Tensor) or tensor.dtype not in _SAFETENSORS_NAMES:
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise UserError(f"state {name!r} is {kind}, which a safetensors file cannot hold")
        weights[name] = tensor.detach().cpu().contiguous().clone()
    return weights


def _watched(
    builder: Callable[..., nn.Module],
    architecture: Architecture,
    shape: tuple[int, int, int],
    classes: int,
    settings: Mapping[str, Any],
    weights: Mapping[str, Tensor],
) -> Candidates:
    """Build and run the network afresh to see what it is made of; its weights must be like `weights`."""
    candidates = Candidates()

    def run() -> dict[str, Tensor]:
        twin = concrete(builder, architecture, shape, classes, **settings)
        with torch.no_grad():
            twin.eval()(torch.zeros(1, *shape))
        return twin.state_dict()

    with seeded_modules(0):
        built = candidates.watch(run)
    wrong = [
        f"{name}: network {list(weights[name].shape) if name in weights else 'has none'}, "
        f"builder {list(built[name].shape) if name in built else 'has none'}"
        for name in {**weights, **built}
        if name not in weights or name not in built or weights[name].shape != built[name].shape
    ]
    if wrong:
        more = f"\n  … and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise UserError(
            "the network is not the one that the builder makes from these settings "
            f"({', '.join(f'{k}={v!r}' for k, v in settings.items()) or 'none'}); weights that differ:\n  "
            + "\n  ".join(wrong[:5])
            + more
        )
    return candidates


def _safetensors(weights: Mapping[str, Tensor]) -> bytes:
    """The file's bytes; its metadata hold the SHA-256 of the numbers, for model.py to check."""
    from safetensors.torch import save

    plain: bytes = save(dict(weights))
    numbers = plain[8 + int.from_bytes(plain[:8], "little") :]
    signed: bytes = save(dict(weights), metadata={"sha256": hashlib.sha256(numbers).hexdigest()})
    return signed


def _read_back(files: Mapping[str, bytes], images: Tensor, model: ModelText) -> Tensor:
    """The output [B, classes] of the files' model, run by a fresh interpreter without archgrad."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, data in files.items():
            Path(scratch, name).write_bytes(data)
        inputs, results = Path(scratch, "inputs.pt"), Path(scratch, "outputs.pt")
        torch.save(images, inputs)
        # -I: neither the current folder nor PYTHONPATH.
        command = [sys.executable, "-I", "-c", _READ_BACK, scratch, str(inputs), str(results)]
        blocked = [p for p in model.own_packages if p not in ("__main__", "model")]  # these two it needs
        done = subprocess.run(
            [*command, str(torch.get_num_threads()), *blocked],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines()[-6:]
            raise WorkError("the stand-alone model does not run without archgrad:\n  " + "\n  ".join(lines))
        found: Tensor = torch.load(results, weights_only=True)
    return found
