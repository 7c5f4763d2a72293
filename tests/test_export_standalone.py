import ast
import json
import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from archgrad.architecture import Architecture
from archgrad.choice import concrete, supernet
from archgrad.datasets.decoding import decode
from archgrad.derive import derive
from archgrad.errors import UserError, WorkError
from archgrad.export.standalone import export_standalone
from archgrad.randomness import seeded_modules
from archgrad.spaces import SPACES
from archgrad.spaces.cell import DARTS_CANDIDATES, DartsNetwork
from archgrad.spaces.drop_path import set_drop_path
from archgrad.spaces.nasbench201 import NasBench201Network

# The second-order cell of Liu et al. 2019 (arXiv 1806.09055): (operation, source) pairs by node.
DARTS_V2 = {
    "normal": [
        [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
        [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
        [("sep_conv_3x3", 1), ("skip_connect", 0)],
        [("skip_connect", 0), ("dil_conv_3x3", 2)],
    ],
    "reduce": [
        [("max_pool_3x3", 0), ("max_pool_3x3", 1)],
        [("skip_connect", 2), ("max_pool_3x3", 1)],
        [("max_pool_3x3", 0), ("skip_connect", 2)],
        [("skip_connect", 2), ("max_pool_3x3", 1)],
    ],
}
NB201 = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_3x3~0|nor_conv_3x3~1|skip_connect~2|"


def darts_v2() -> Architecture:
    choices = {}
    for kind, nodes in DARTS_V2.items():
        for node, pairs in enumerate(nodes, start=2):
            choices |= {f"{kind}/{node}<-{source}": "none" for source in range(node)}
            choices |= {f"{kind}/{node}<-{source}": operation for operation, source in pairs}
    return Architecture(choices)


def trained(builder, architecture, shape, classes, **settings):
    """A network with random weights and running statistics other than 0 and 1."""
    with seeded_modules(3):
        network = concrete(builder, architecture, shape, classes, **settings)
    network(2 * torch.rand(8, *shape, generator=torch.Generator().manual_seed(1)))
    return network


def export(tmp_path, builder, architecture, shape, classes=3, real=None, **settings):
    network = trained(builder, architecture, shape, classes, **settings)
    names = [f"class {i}" for i in range(classes)]
    mean, std = [0.4 + 0.1 * c for c in range(shape[0])], [0.2 + 0.1 * c for c in range(shape[0])]
    folder = tmp_path / "export"
    check = export_standalone(network, builder, architecture, shape, names, settings, mean, std, folder, real)
    return network, check


def isolated(folder, *arguments, code=None):
    """Run a program of the folder, or `code`, where neither archgrad nor safetensors can be imported."""
    code = code or "import runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    block = "import sys; sys.modules.update(archgrad=None, safetensors=None); sys.path.insert(0, '.')\n"
    return subprocess.run(
        [sys.executable, "-I", "-c", block + code, *arguments], cwd=folder, capture_output=True, text=True
    )


def defined(text: str) -> set[str]:
    return {n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ClassDef | ast.FunctionDef)}


def assert_clean(path) -> None:
    """No undefined or unused name, and nothing of archgrad imported."""
    compile(path.read_text(), str(path), "exec")
    ruff = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F,E9", str(path)],
        capture_output=True,
        text=True,
    )
    assert ruff.returncode == 0, ruff.stdout
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not node.module.startswith("archgrad")
        if isinstance(node, ast.Import):
            assert all(not alias.name.startswith("archgrad") for alias in node.names)


@pytest.fixture(scope="module")
def darts(tmp_path_factory):
    return export(
        tmp_path_factory.mktemp("darts"), DartsNetwork, darts_v2(), (3, 32, 32), channels=4, cells=3
    )


SEARCHED = {"channels": 4, "cells": 3, "nodes": 2, "affine": False, "pool_norm": True}


@pytest.mark.parametrize(
    ("space", "settings"),
    [
        ("s1", {"channels": 4, "cells": 3}),
        ("s2", SEARCHED),
        ("s4", SEARCHED),
        ("reduced_darts", SEARCHED),
        ("pc_darts", {**SEARCHED, "partial_channels": 2, "edge_normalisation": True}),
        ("darts_imagenet", {"channels": 4, "cells": 3, "nodes": 2}),
        ("nasbench201", {"channels": 4, "cells": 1, "partial_channels": 2, "edge_normalisation": True}),
        ("mobile", {"channels": 4, "reductions": 2, "widths": [0.5, 1.0]}),
    ],
)
def test_every_space_as_it_is_searched_runs_without_archgrad(tmp_path, space, settings):
    """Dropped edges, weighed edges, partial channels, widths: as after training with inherited weights."""
    builder = SPACES[space].builder
    groups = supernet(builder, (3, 16, 16), 3, **settings).groups
    generator = torch.Generator().manual_seed(3)
    probabilities = [torch.rand(len(g.names), len(g.candidates), generator=generator) for g in groups]
    probabilities = [p / p.sum(dim=1, keepdim=True) for p in probabilities]
    architecture = derive(groups, probabilities, SPACES[space].rule).architecture
    _, check = export(tmp_path, builder, architecture, (3, 16, 16), **settings)
    assert check.largest_difference < 1e-5
    assert_clean(check.folder / "model.py")


def test_darts_cell_is_the_same_network_without_archgrad(darts):
    network, check = darts
    assert check.largest_difference == 0.0
    assert [file.name for file in check.files] == [
        "model.py",
        "weights.safetensors",
        "architecture.json",
        "predict.py",
    ]
    assert sorted(p.name for p in check.folder.iterdir()) == sorted(file.name for file in check.files)
    assert_clean(check.folder / "model.py")
    assert_clean(check.folder / "predict.py")
    # The same comparison made here, independently of the one inside the export.
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    code = """
import torch, model
x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(5))
torch.set_num_threads(1)
with torch.no_grad():
    print(model.load()(x).tolist())
print(sorted(m for m, v in sys.modules.items() if v and m.split('.')[0] in ('archgrad', 'safetensors')))
"""
    done = isolated(check.folder, code=code)
    assert done.returncode == 0, done.stderr
    found, modules = done.stdout.splitlines()
    with torch.no_grad():
        expected = network.eval()(images)
    torch.testing.assert_close(torch.tensor(json.loads(found)), expected, rtol=0, atol=1e-6)
    assert modules == "[]"


def test_only_chosen_candidates_are_in_the_file(darts):
    names = defined((darts[1].folder / "model.py").read_text())
    chosen = set(darts_v2().values())
    functions = set(DARTS_CANDIDATES) - {"none"}  # `none` is the class Zero
    assert functions & names == functions & chosen
    assert {"avg_pool_3x3", "sep_conv_5x5", "dil_conv_5x5"} <= functions - names
    assert not {"Space", "Supernet", "Choice", "Table", "set_drop_path", "not_chosen"} & names


def test_architecture_and_weights_files(darts):
    network, check = darts
    assert Architecture.from_json((check.folder / "architecture.json").read_text()) == darts_v2()
    tensors = load_file(check.folder / "weights.safetensors")  # the library's own reader agrees with ours
    assert tensors.keys() == network.state_dict().keys()
    assert all(torch.equal(tensors[k], v) for k, v in network.state_dict().items())


def test_docstrings_and_comments_are_kept_and_no_path_of_this_machine(darts):
    text = (darts[1].folder / "model.py").read_text()
    assert '"""Two inputs, `nodes` intermediate nodes, output the concatenation of some of them.' in text
    assert "# A removed edge costs nothing" in text
    assert darts_v2().digest in text
    assert os.sep + "site-packages" not in text
    assert str(darts[1].folder.parent) not in text


def test_two_exports_are_identical(darts, tmp_path):
    _, again = export(tmp_path, DartsNetwork, darts_v2(), (3, 32, 32), channels=4, cells=3)
    for file in darts[1].files:
        assert file.read_bytes() == (again.folder / file.name).read_bytes()


def test_looked_up_but_unchosen_candidates_have_no_code(tmp_path):
    architecture = Architecture.from_nasbench201(NB201)
    _, check = export(tmp_path, NasBench201Network, architecture, (1, 8, 8), channels=4, cells=1)
    assert check.largest_difference == 0.0
    assert_clean(check.folder / "model.py")
    text = (check.folder / "model.py").read_text()
    assert {"nor_conv_3x3", "skip_connect", "Zero", "not_chosen"} <= defined(text)
    assert not {"nor_conv_1x1", "avg_pool_3x3", "_pool"} & defined(text)


@pytest.mark.parametrize("kind", ["RGBA", "I;16", "npy"])
def test_predict_prepares_a_picture_as_the_data_set_reader_does(darts, kind):
    network, check = darts
    generator = np.random.default_rng(0)
    path = check.folder.parent / "picture.png"
    if kind == "npy":
        path = path.with_suffix(".npy")
        np.save(path, generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        pixels = np.load(path).transpose(2, 0, 1).copy()
    else:
        if kind == "I;16":
            Image.fromarray(generator.integers(0, 65536, (40, 30), dtype=np.uint16)).save(path)
        else:
            Image.fromarray(generator.integers(0, 256, (67, 101, 4), dtype=np.uint8)).save(path)
        pixels = decode(path, "picture", 3, (32, 32))
    images = torch.from_numpy(pixels)[None] / 255
    images = (images - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.4]).view(
        3, 1, 1
    )
    with torch.no_grad():
        probabilities = network.eval()(images).softmax(1)[0]
    done = isolated(check.folder, "predict.py", str(path))
    assert done.returncode == 0, done.stderr
    name, _, probability = done.stdout.strip().rpartition(" ")
    assert name == f"class {int(probabilities.argmax())}"
    assert float(probability) == pytest.approx(float(probabilities.max()), abs=6e-5)  # four digits printed


def test_predict_explains_itself(darts):
    usage = isolated(darts[1].folder, "predict.py")
    assert usage.returncode == 1
    assert "python predict.py picture.png" in usage.stderr


def test_predict_with_two_channels_reads_arrays(tmp_path):
    architecture = Architecture.from_nasbench201(NB201)
    network, check = export(tmp_path, NasBench201Network, architecture, (2, 7, 9), channels=4, cells=1)
    assert_clean(check.folder / "predict.py")
    pixels = np.random.default_rng(0).integers(0, 256, (7, 9, 2), dtype=np.uint8)
    np.save(tmp_path / "picture.npy", pixels)
    done = isolated(check.folder, "predict.py", str(tmp_path / "picture.npy"))
    assert done.returncode == 0, done.stderr
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    x = (x - torch.tensor([0.4, 0.5]).view(2, 1, 1)) / torch.tensor([0.2, 0.3]).view(2, 1, 1)
    with torch.no_grad():
        probability = float(network.eval()(x).softmax(1).max())
    assert float(done.stdout.split()[-1]) == pytest.approx(probability, abs=6e-5)


def test_damaged_weights_are_refused(darts):
    whole = (darts[1].folder / "weights.safetensors").read_bytes()
    damaged = {
        "short": (whole[:-100], "was it cut short?"),
        "flipped": (whole[:-50] + bytes([whole[-50] ^ 1]) + whole[-49:], "SHA-256"),
        "foreign": (b"PK" + whole[2:], "no safetensors file"),
        "empty": (b"", "no safetensors file"),
    }
    for name, (data, _) in damaged.items():
        (darts[1].folder.parent / f"{name}.safetensors").write_bytes(data)
    code = """
import model
for name in sys.argv[1:]:
    try:
        model.load(f"../{name}.safetensors")
        print("loaded", name)
    except ValueError as error:
        print(error)
"""
    done = isolated(darts[1].folder, *damaged, code=code)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4
    for line, (name, (_, message)) in zip(lines, damaged.items(), strict=True):
        assert f"{name}.safetensors" in line
        assert message in line


def test_network_and_random_state_are_left_as_they_were(tmp_path):
    architecture = darts_v2()
    network = trained(DartsNetwork, architecture, (1, 16, 16), 2, channels=2, cells=3)
    set_drop_path(network, 0.3, torch.Generator().manual_seed(0))
    network.stem.eval()
    flags = [m.training for m in network.modules()]
    state = torch.get_rng_state()
    real = torch.randn(6, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    settings = {"channels": 2, "cells": 3}
    check = export_standalone(
        network, DartsNetwork, architecture, (1, 16, 16), ["a", "b"], settings, [0.5], [0.2], tmp_path, real
    )
    assert check.largest_difference == 0.0
    assert [m.training for m in network.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)


# ---- a user's own space

OWN_BLOCKS = """
from __future__ import annotations
import math
from typing import TYPE_CHECKING
import torch.nn.functional as F
from torch import nn
from archgrad.ops.convolution import ReLUConvBN as Plain
if TYPE_CHECKING:
    from torch import Size, Tensor

SLOPE = math.sqrt(2) / 10

def unused_helper():
    return 1

class Leaky(nn.Module):
    # keeps small negative values
    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, SLOPE)

def registered(cls):
    return named(cls)

def named(cls):
    cls.label = cls.__name__.lower()
    return cls

@registered
class Wide(Leaky):
    def __init__(self, width: int, SLOPE: int = 3):  # a parameter that shadows the constant
        super().__init__()
        self.body = nn.Sequential(Plain(width, width, 3, 1), Leaky())

    def forward(self, x: "Tensor") -> "Tensor":
        return super().forward(self.body(x))

    def size(self, x: Tensor) -> "Size":
        return x.shape
"""
OWN_SPACE = """
from functools import partial
import torch.nn as nn
from archgrad.choice import Pick
from archgrad.ops import OPS
from {blocks} import Wide, Leaky as Soft

# Widths that were tried by hand.
WIDTHS: tuple[int, ...] = (4, 6)

def widths(): return {{name: width for name, width in zip(("narrow", "wide"), WIDTHS)}}

def space(pick: Pick, shape: tuple[int, int, int], classes: int, kind="wide", depth=1) -> nn.Module:
    width = widths()[kind]
    layers = [nn.Conv2d(shape[0], width, 1), OPS["skip_connect"](width, width, 1)]
    for i in range(depth):
        options = {{
            "conv": lambda: OPS["nor_conv_1x1"](width, width, 1),
            "pool": lambda: OPS["max_pool_3x3"](width, width, 1),
            "own": partial(Wide, width),
            "mine": partial(OPS["{blocks}:Wide"], width),
        }}
        layers.append(pick(f"layer {{i}}", options))
    return nn.Sequential(*layers, Soft(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """Write a module of the user's and import it: ``own_module(name, text)``."""
    (tmp_path / "project").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "project")
    made = []

    def make(name: str, text: str):
        (tmp_path / "project" / f"{name}.py").write_text(textwrap.dedent(text))
        made.append(name)
        return __import__(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


def test_a_users_space_with_helpers_constants_and_own_modules(tmp_path, own_module):
    own_module("own_blocks", OWN_BLOCKS)
    space = own_module("own_space", OWN_SPACE.format(blocks="own_blocks")).space
    architecture = Architecture({"layer 0": "own", "layer 1": "conv", "layer 2": "mine"})
    _, check = export(tmp_path, space, architecture, (3, 9, 7), kind="narrow", depth=3)
    assert check.largest_difference == 0.0
    path = check.folder / "model.py"
    assert_clean(path)
    text = path.read_text()
    assert {"Wide", "Leaky", "registered", "named", "nor_conv_1x1", "skip_connect"} <= defined(text)
    assert not {"unused_helper", "max_pool_3x3", "not_chosen"} & defined(text)
    assert "# Widths that were tried by hand." in text
    assert "# keeps small negative values" in text
    assert "Soft = Leaky" in text
    assert 'kind="narrow", depth=3' in text
    assert "needs only PyTorch" in text


def space_text(body: str, imports: str = "", before: str = "") -> str:
    return (
        f"from torch import nn\n{imports}\n{before}\n"
        "def space(pick, shape, classes, **settings):\n"
        f"    first = pick('first', {{'a': lambda: {body}}})\n"
        "    return nn.Sequential(first, nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], classes))\n"
    )


REFUSED = {
    "collision": (
        space_text(
            "nn.Sequential(Act(), Act2())",
            "from refused_other import Act as Act2",
            "class Act(nn.ReLU): pass",
        ),
        r"'Act' stands for two things.*refused_space, line \d+; and refused_other, line \d+.*Rename",
    ),
    "reserved": (
        space_text("load()", before="def load(): return nn.ReLU()"),
        "'load' stands for two things",
    ),
    "module attribute": (
        space_text("refused_other.Act()", "import refused_other"),
        "'from refused_other import Act' instead",
    ),
    "bound twice": (
        space_text("Act()", before="Act = nn.ReLU\nAct = nn.Tanh"),
        r"binds 'Act' more than once \(lines 3, 4\)",
    ),
    "in a block": (
        space_text("Act()", before="try:\n    Act = nn.ReLU\nexcept AttributeError:\n    pass"),
        "'Act' is not bound by a plain top-level",
    ),
    "star": (space_text("Act()", "from refused_other import *"), "uses 'Act', which no top-level statement"),
    "import in the body": (
        space_text("make()", before="def make():\n    from refused_other import Act\n    return Act()"),
        "'make' imports inside its body",
    ),
    "table attribute": (
        space_text("OPS[list(OPS.entries)[1]](1, 1, 1)", "from archgrad.ops import OPS"),
        "is a dictionary: use only",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_source_that_cannot_be_copied_says_what_to_do(tmp_path, own_module, case):
    text, message = REFUSED[case]
    own_module("refused_other", "from torch import nn\nclass Act(nn.Sigmoid): pass\n")
    space = own_module("refused_space", text).space
    with pytest.raises(UserError, match=message):
        export(tmp_path, space, Architecture({"first": "a"}), (1, 4, 4))
    assert not (tmp_path / "export").exists()


LAZY = """
import importlib
def __getattr__(name):
    return getattr(importlib.import_module("lazy_package.parts"), name)
"""


def test_lazily_exported_names_are_found(tmp_path, own_module):
    package = tmp_path / "project" / "lazy_package"
    package.mkdir()
    (package / "__init__.py").write_text(LAZY)
    (package / "parts.py").write_text("from torch import nn\nclass Act(nn.ReLU): pass\n")
    text = space_text("nn.Sequential(Act(), Renamed())", "from lazy_package import Act, Act as Renamed")
    space = own_module("lazy_space", text).space
    _, check = export(tmp_path, space, Architecture({"first": "a"}), (1, 4, 4))
    text = (check.folder / "model.py").read_text()
    assert "Act" in defined(text)
    assert "Renamed = Act" in text
    assert_clean(check.folder / "model.py")


def test_a_space_without_a_source_file_says_so(tmp_path):
    namespace = {"__name__": "typed_in"}
    exec(space_text("nn.ReLU()"), namespace)
    with pytest.raises(UserError, match=r"put it into a \.py file"):
        export(tmp_path, namespace["space"], Architecture({"first": "a"}), (1, 4, 4))


def test_a_nested_space_says_so(tmp_path):
    def space(pick, shape, classes):
        return nn.Sequential(pick("first", {"a": nn.ReLU}), nn.Flatten(), nn.Linear(16, classes))

    with pytest.raises(UserError, match="no top-level function"):
        export(tmp_path, space, Architecture({"first": "a"}), (1, 4, 4))


OWN_TABLE = """
from archgrad.table import Entry, Table
from torch import nn

OPS = Table("operation", {"relu": Entry("table_space:relu", ""), "tanh": Entry("torch.nn:Tanh", "")})

def relu():
    return nn.ReLU()

def space(pick, shape, classes):
    options = {name: OPS[name] for name in OPS}
    first, second = pick("first", options), pick("second", options)
    return nn.Sequential(first, second, nn.Flatten(), nn.Linear(16, classes))
"""


def test_a_table_of_ones_own_above_its_entries(tmp_path, own_module):
    space = own_module("table_space", OWN_TABLE).space
    _, check = export(tmp_path, space, Architecture({"first": "relu", "second": "tanh"}), (1, 4, 4))
    text = (check.folder / "model.py").read_text()
    assert text.index("def relu") < text.index('OPS = {\n    "relu": relu,\n    "tanh": Tanh,\n}')
    assert_clean(check.folder / "model.py")


def test_a_builder_that_its_module_no_longer_holds_says_so(tmp_path, own_module):
    module = own_module("replaced_space", space_text("nn.ReLU()"))
    space, module.space = module.space, nn.Identity
    with pytest.raises(UserError, match="no top-level function"):
        export(tmp_path, space, Architecture({"first": "a"}), (1, 4, 4))


def test_a_setting_that_is_no_literal_is_named(tmp_path, own_module):
    space = own_module("refused_space", space_text("nn.ReLU()")).space
    with pytest.raises(UserError, match="setting 'act' has the value"):
        export(tmp_path, space, Architecture({"first": "a"}), (1, 4, 4), act=nn.ReLU())


def test_settings_of_another_network_are_refused(tmp_path):
    architecture = darts_v2()
    network = trained(DartsNetwork, architecture, (1, 16, 16), 2, channels=2, cells=3, auxiliary=True)
    given = (["a", "b"], {"channels": 2, "cells": 3}, [0.5], [0.2], tmp_path / "export", None)
    with pytest.raises(UserError, match=r"auxiliary.*builder has none"):
        export_standalone(network, DartsNetwork, architecture, (1, 16, 16), *given)
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(("mean", "std"), [([0.5, 0.5], [0.2, 0.2]), ([0.5], [0.0])])
def test_mean_and_std_must_fit_the_channels(tmp_path, mean, std):
    architecture = Architecture.from_nasbench201(NB201)
    network = trained(NasBench201Network, architecture, (1, 8, 8), 2, channels=4, cells=1)
    with pytest.raises(UserError, match="one number for each of the 1 channels"):
        export_standalone(
            network, NasBench201Network, architecture, (1, 8, 8), ["a", "b"], {}, mean, std, tmp_path, None
        )


FORGETFUL = """
import os
from torch import nn

class Scaled(nn.Module):
    def forward(self, x):
        return x * (2.0 if "PYTEST_CURRENT_TEST_EXPORT" in os.environ else 1.0)

def space(pick, shape, classes):
    return nn.Sequential(pick("first", {"a": Scaled}), nn.Flatten(), nn.Linear(16, classes))
"""


def test_a_model_that_computes_something_else_is_not_written(tmp_path, own_module, monkeypatch):
    space = own_module("forgetful_space", FORGETFUL).space
    run = subprocess.run
    monkeypatch.setenv("PYTEST_CURRENT_TEST_EXPORT", "1")
    without = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST_EXPORT"}
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: run(*a, **k, env=without))
    with pytest.raises(WorkError, match=r"differs from the network.*not written"):
        export(tmp_path, space, Architecture({"first": "a"}), (1, 4, 4))
    assert not (tmp_path / "export").exists()


def test_a_model_that_does_not_run_alone_is_not_written(tmp_path, own_module):
    text = space_text(
        "Scale()",
        "import importlib",
        "TABLE = [importlib.import_module('archgrad').__name__]\nclass Scale(nn.ReLU):\n    table = TABLE",
    )
    space = own_module("dependent_space", text).space
    with pytest.raises(WorkError, match="does not run without archgrad"):
        export(tmp_path, space, Architecture({"first": "a"}), (1, 4, 4))
    assert not (tmp_path / "export").exists()
