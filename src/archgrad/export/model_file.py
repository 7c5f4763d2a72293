"""The text of the stand-alone folder's two programs, model.py and predict.py."""

from __future__ import annotations

import ast
import importlib.metadata
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import nn

from archgrad.architecture import Architecture
from archgrad.errors import UserError
from archgrad.export.candidates import Candidates
from archgrad.export.closure import Closure, body, import_lines, locate
from archgrad.export.module_source import Import

_TAIL_NAMES = (
    "ARCHITECTURE", "CLASSES", "SHAPE", "MEAN", "STD", "DTYPES", "chosen", "build", "load", "read_safetensors"
)  # fmt: skip
_TAIL_IMPORTS = (
    Import("hashlib", None, "hashlib"),
    Import("json", None, "json"),
    Import("collections.abc", "Callable", "Callable"),
    Import("collections.abc", "Mapping", "Mapping"),
    Import("pathlib", "Path", "Path"),
    Import("torch", None, "torch"),
    Import("torch", "nn", "nn"),
)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}

_TAIL = '''
# ---- this network

ARCHITECTURE = {{
{architecture}}}
CLASSES = {classes}
SHAPE = {shape}  # channels, height, width of an image
MEAN = {mean}  # of each channel, over the training images scaled to [0, 1]
STD = {std}


def chosen(name: str, options: Mapping[str, Callable[[], nn.Module]]) -> nn.Module:
    """Build the candidate that the search chose for the decision `name`."""
{chosen}


def build() -> nn.Module:
    """Return the network with fresh random weights: images [B, {dims}] -> [B, {n}]."""
    return {builder}({arguments})


def load(path: str | Path = Path(__file__).with_name("weights.safetensors")) -> nn.Module:
    """Return the trained network in evaluation mode: normalised images [B, {dims}] -> logits [B, {n}]."""
    network = build()
    network.load_state_dict(read_safetensors(Path(path)))
    return network.eval()


DTYPES = {dtypes}


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Read tensors: 8 bytes with the length of the JSON header, the header, then the raw numbers.

    The header may hold the SHA-256 of the numbers, which is checked; nothing in the file is executed.
    """
    data = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    try:
        header = json.loads(data[8:start])
        digest = header.pop("__metadata__", {{}}).get("sha256")
        size = max(entry["data_offsets"][1] for entry in header.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{{path}} is no safetensors file, or its header is damaged") from None
    if len(data) != start + size:
        raise ValueError(f"{{path}} should have {{start + size}} bytes, has {{len(data)}}: was it cut short?")
    if digest and hashlib.sha256(data[start:]).hexdigest() != digest:
        raise ValueError(f"{{path}} is damaged: the SHA-256 of its numbers is not the one in its header")
    tensors = {{}}
    for name, entry in header.items():
        first, end = entry["data_offsets"]
        raw = torch.frombuffer(data, dtype=torch.uint8)[start + first : start + end].clone()
        tensors[name] = raw.view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors
'''

_HEADER = '''"""An image classifier: {n} classes, images of {c} × {h} × {w} (channels × height × width).

Found by architecture search and written by archgrad {version}; needs {requirements}, not archgrad.
Architecture {digest} (ARCHITECTURE below, and architecture.json).{licence}

    from model import load
    network = load()  # weights.safetensors, beside this file
    logits = network((images - mean) / std)  # images [B, {c}, {h}, {w}] in [0, 1]; MEAN and STD by channel

predict.py does this for an image file.
"""
'''

_LICENCE = """
The code below is the search space {module}.{name}, cut down to what this
architecture uses. Parts marked "from archgrad" are under the MIT licence, (c) the archgrad authors."""


class ModelText(NamedTuple):
    """The text of model.py, and the top-level packages whose source was copied into it."""

    text: str
    own_packages: tuple[str, ...]


def model_text(
    builder: Callable[..., nn.Module],
    candidates: Candidates,
    architecture: Architecture,
    shape: tuple[int, int, int],
    classes: Sequence[str],
    settings: Mapping[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    dtypes: Mapping[str, str],
) -> ModelText:
    """The text of model.py.

    Args:
        builder: the space, a top-level function or class of a module.
        candidates: what building and running the concrete network looked up and called.
        architecture: choice -> candidate.
        shape: (C, H, W) of an image.
        classes: names of the classes.
        settings: the builder's, after pick, shape and classes.
        mean: of each channel, images in [0, 1].
        std: standard deviation of each channel.
        dtypes: of the weights: name in a safetensors header -> name in torch.

    Raises:
        UserError: source is missing or cannot be copied, names collide, or a setting is no literal.
    """
    if isinstance(builder, partial):  # a space that is another one with some settings of its own
        if builder.args:
            raise UserError(f"the space {builder!r} has positional arguments: give them by name")
        settings = {**builder.keywords, **settings}
        builder = builder.func
    module, name = locate(builder)
    root = module.partition(".")[0]
    closure = Closure(candidates, {"archgrad", root})
    for wanted in _TAIL_IMPORTS:
        closure.add_import(wanted)
    for reserved in _TAIL_NAMES:
        closure.reserve(reserved)
    closure.add(module, name)
    pieces = closure.ordered()
    channels, height, width = shape
    words = {"n": len(classes), "c": channels, "h": height, "w": width}
    requirements = closure.requirements()
    header = _HEADER.format(
        **words,
        version=_version(),
        requirements="only PyTorch" if requirements == ["torch"] else " and ".join(requirements),
        digest=architecture.digest,
        licence=_LICENCE.format(module=module, name=name),
    )
    tail = _TAIL.format(
        chosen=_chosen({piece.name for piece in pieces}),
        architecture="".join(f"    {_literal(k)}: {_literal(v)},\n" for k, v in architecture.items()),
        classes=_wrapped(tuple(classes)),
        shape=_literal(tuple(shape)),
        mean=_literal(tuple(float(m) for m in mean)),
        std=_literal(tuple(float(s) for s in std)),
        dims=f"{channels}, {height}, {width}",
        n=len(classes),
        builder=name,
        arguments=_arguments(settings),
        dtypes="{" + ", ".join(f'"{k}": torch.{v}' for k, v in sorted(dtypes.items())) + "}",
    )
    imports = "from __future__ import annotations\n\n" + import_lines(closure.imports)
    text = f"{header}\n{imports}\n{body(pieces)}\n{tail}"
    copied = {p.module.partition(".")[0] for p in pieces} | {"archgrad"}
    return ModelText(text, tuple(sorted(copied)))


def _chosen(names: set[str]) -> str:
    """The body of ``chosen``: what the space uses of `archgrad.choice` has to be met there."""
    lines = []
    if "Blend" in names:
        lines += [
            "    if name not in ARCHITECTURE:  # nothing is chosen, all are added",
            "        return Sum(build() for build in options.values())",
        ]
    if "Droppable" in names:
        lines += [
            "    if ARCHITECTURE[name] not in options:",
            "        return options.dropped()",
        ]
    return "\n".join([*lines, "    return options[ARCHITECTURE[name]]()"])


def _arguments(settings: Mapping[str, Any]) -> str:
    given = ["chosen", "SHAPE", "len(CLASSES)", *(f"{k}={_setting(k, v)}" for k, v in settings.items())]
    line = ", ".join(given)
    if len(line) < 90:
        return line
    return "\n" + "".join(f"        {argument},\n" for argument in given) + "    "


def _setting(key: str, value: object) -> str:
    text = _literal(value)
    try:
        same = ast.literal_eval(text) == value
    except (ValueError, SyntaxError):
        same = False
    if not same:
        raise UserError(
            f"setting {key!r} has the value {value!r}, which cannot be written down in model.py: "
            "give numbers, strings, booleans, None, and lists, tuples or dictionaries of these"
        )
    return text


def _literal(value: object) -> str:
    """`repr`, with double quotes where that is the same."""
    if isinstance(value, str):
        text = repr(value)
        return f'"{text[1:-1]}"' if text[0] == "'" and '"' not in text else text
    if type(value) is tuple:
        return "(" + ", ".join(map(_literal, value)) + ("," if len(value) == 1 else "") + ")"
    if type(value) is list:
        return "[" + ", ".join(map(_literal, value)) + "]"
    if type(value) is dict:
        return "{" + ", ".join(f"{_literal(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    return repr(value)


def _wrapped(names: tuple[str, ...]) -> str:
    line = _literal(names)
    if len(line) < 95:
        return line
    return "(\n" + "".join(f"    {_literal(name)},\n" for name in names) + ")"


def _version() -> str:
    try:
        return importlib.metadata.version("archgrad")
    except importlib.metadata.PackageNotFoundError:  # run from a source tree
        return "(uninstalled)"


def predict_text(shape: tuple[int, int, int]) -> str:
    """The text of predict.py: image file in, class and probability out.

    An image is converted to grey (C = 1), RGB (3) or RGBA (4); for other C only .npy files are read.
    """
    mode = _MODES.get(shape[0])
    template = _PREDICT_IMAGE if mode else _PREDICT_ARRAY
    return textwrap.dedent(template).replace("MODE", str(mode))


_PREDICT_IMAGE = '''\
"""Classify an image: python predict.py picture.png (or a .npy file of uint8, [H, W] or [H, W, C])."""

import sys

import numpy as np
import torch
from PIL import Image

from model import CLASSES, MEAN, SHAPE, STD, load

if len(sys.argv) != 2:
    sys.exit(__doc__)
path, (channels, height, width) = sys.argv[1], SHAPE
array = np.load(path).astype(np.uint8, casting="safe") if path.endswith(".npy") else None
image = Image.open(path) if array is None else Image.fromarray(array)
if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip instead of scale
    image = Image.fromarray(((np.asarray(image).astype(np.int64) + 128) // 257).astype(np.uint8))
image = image.convert("MODE").resize((width, height), Image.Resampling.BILINEAR)
pixels = torch.from_numpy(np.array(image)).view(height, width, channels).permute(2, 0, 1) / 255
mean, std = torch.tensor(MEAN).view(-1, 1, 1), torch.tensor(STD).view(-1, 1, 1)
with torch.no_grad():
    probabilities = load()(((pixels - mean) / std)[None]).softmax(dim=1)[0]
print(f"{CLASSES[int(probabilities.argmax())]} {float(probabilities.max()):.4f}")
'''

_PREDICT_ARRAY = '''\
"""Classify an image: python predict.py picture.npy (uint8, [H, W, C] of the training size)."""

import sys

import numpy as np
import torch

from model import CLASSES, MEAN, STD, load

if len(sys.argv) != 2:
    sys.exit(__doc__)
pixels = torch.from_numpy(np.load(sys.argv[1]).astype(np.uint8, casting="safe")).permute(2, 0, 1) / 255
mean, std = torch.tensor(MEAN).view(-1, 1, 1), torch.tensor(STD).view(-1, 1, 1)
with torch.no_grad():
    probabilities = load()(((pixels - mean) / std)[None]).softmax(dim=1)[0]
print(f"{CLASSES[int(probabilities.argmax())]} {float(probabilities.max()):.4f}")
'''
