"""What the documents say is true: blocks run, commands work, names and files exist, formats are as described.

A block that begins with a file name (``# my_part.py``) is that file. Commands run with few epochs added;
those that need other data than digits, and the demo, are checked as far as the configuration and not run.
"""

from __future__ import annotations

import ast
import doctest
import fnmatch
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

import click
import pytest
import torch
from click.testing import CliRunner

import archgrad
from archgrad.catalogue import FAMILIES
from archgrad.cli import main
from archgrad.config import Config
from archgrad.config_layers import merge, overrides, read
from archgrad.config_problems import check
from archgrad.spaces import SPACES
from archgrad.spaces.space import as_space

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES, SOURCE = ROOT / "examples", ROOT / "src" / "archgrad"
DOCUMENTS = [
    ROOT / name
    for name in (
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/choosing.md",
        "docs/extending.md",
        "docs/frequency.md",
        "docs/genotypes.md",
        "docs/gradients.md",
        "docs/gumbel.md",
        "docs/spaces.md",
        "docs/language.md",
        "docs/latency.md",
        "docs/costs.md",
        "docs/budgets.md",
        "docs/convergence.md",
        "docs/watching.md",
    )
]
README, ARCHITECTURE, CHOOSING = DOCUMENTS[0], DOCUMENTS[3], DOCUMENTS[4]
SMALL = ["space.channels=2", "space.cells=1", "space.stages=1", "train.space.stages=1"]
FEW = {
    "search": ["search.epochs=1"],
    "train": ["train.epochs=1"],
    "channels": ["train.epochs=1"],
    "sweep": ["--points=2", "--seeds=2", "--steps=20"],
    "experiment": ["--seeds=2", "--steps=10"],
    "experiment --data": ["--seeds=1", "--jobs=1", "search.epochs=2", "search.warmup_epochs=0", *SMALL],
    "sweep --run": ["--points=2", "--controls=0", "search.epochs=2", "train.epochs=1"],
    "latency": ["space.channels=4", "space.cells=1", "--rounds=4", "--drift=1e6"],  # on a busy machine, too
}
OTHER_COMMANDS = {"git", "cd", "pip"}  # shown for installation; `make`, `python` and `archgrad` are checked

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


class Block(NamedTuple):
    """A fenced block: its language, text, and the line it begins on."""

    language: str
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The file name in its first line."""
        match = re.match(r"# ([\w-]+\.(?:py|yaml|toml))\n", self.text)
        return match[1] if match else None


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(m[1], m[2], text[: m.start()].count("\n") + 2)
        for m in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    ]


def prose(document: Path) -> str:
    """The text without fenced blocks."""
    return re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def spans(text: str) -> list[str]:
    """Inline code."""
    return [re.sub(r"\s+", " ", span) for span in re.findall(r"`([^`]+)`", text)]


def commands(block: Block) -> list[list[str]]:
    """The commands of a block as words, without prompt and variables; in a console block `$` marks them."""
    lines = block.text.replace("\\\n", " ").splitlines()
    if block.language == "console":
        lines = [line[2:] for line in lines if line.startswith("$ ")]
    elif block.language != "sh":
        return []
    words = [shlex.split(line, comments=True) for line in lines]
    return [[w for i, w in enumerate(c) if i or not re.match(r"[A-Z_]+=", w)] for c in words if c]


def option(words: list[str], name: str, default: str | None = None) -> str | None:
    return words[words.index(name) + 1] if name in words else default


class _Checked(Exception):
    """The settings of a command were found right; the search itself was not started."""


class Session:
    """A reader who works through one document in an empty folder."""

    def __init__(self, folder: Path, document: Path) -> None:
        self.folder, self.document = folder, document
        self.ran: list[str] = []
        self.checked: list[str] = []
        self.runs: set[str] = {"runs/demo"}
        self.namespace: dict[str, object] = {"__name__": document.stem}

    def work_through(self) -> None:
        found = blocks(self.document)
        for block in found:
            if block.file:
                (self.folder / block.file).write_text(block.text, encoding="utf-8")
        for block in found:
            if block.language == "python" and not block.file:
                exec(compile(block.text, f"{self.document.name}:{block.line}", "exec"), self.namespace)
                self.runs |= {str(p.parent) for p in Path("runs").rglob("config.yaml")}
            for command in commands(block):
                self.run(command)

    def run(self, command: list[str]) -> None:
        text = shlex.join(command)
        match command:
            case ["archgrad", verb, *arguments]:
                self._archgrad(text, verb, arguments)
            case ["make", target]:
                assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), text
            case ["python", script, *_]:
                assert (ROOT / script).is_file(), text
            case _:
                assert command[0] in OTHER_COMMANDS, f"{text}: no check for this command"

    def _archgrad(self, text: str, verb: str, arguments: list[str]) -> None:
        assert verb in main.commands, f"{text}: no such verb"
        main.commands[verb].make_context(verb, list(arguments))  # raises on a wrong option
        genotype = "--genotype" in arguments  # nothing is searched before it
        if verb == "search" or (verb == "train" and genotype):
            self.runs.add(str(option(arguments, "--run")))
        elif verb == "experiment":
            self.runs.add(str(option(arguments, "--out")))
        elif not genotype and verb not in ("list", "demo", "lab", "channels", "latency", "sweep"):
            assert arguments[0] in self.runs, f"{text}: no command above makes the run {arguments[0]}"
        if verb == "demo" or "--kit" in arguments or option(arguments, "--data", "digits") != "digits":
            self._check_only(text, verb, arguments)
        elif (
            verb in ("list", "search", "lab", "channels", "latency", "sweep", "experiment")
            or genotype
            or Path(arguments[0]).exists()
        ):
            own = {"sweep": "--run", "experiment": "--data"}.get(verb)
            kind = f"{verb} {own}" if own in arguments else verb
            few = [] if {"--resume", "--check"} & set(arguments) else FEW.get(kind, [])
            done = CliRunner().invoke(main, [verb, *arguments, *few])
            assert done.exit_code == 0, f"{text}\n{done.output}{done.exception!r}"
            self.ran.append(text)
        else:
            self.checked.append(text)

    def _check_only(self, text: str, verb: str, arguments: list[str]) -> None:
        if verb == "search":
            file = option(arguments, "--config")
            method, space = option(arguments, "--method"), option(arguments, "--space")
            given = merge(
                read(Path(file)) if file else {},
                {"method": method} if method else {},
                {"space": {"name": space}} if space else {},
                {"data": {"name": option(arguments, "--data")}},
                overrides([w for w in arguments if re.match(r"[a-z_]+\.[a-z_.]+=", w)]),
            )
            check(given)
        self.checked.append(text)


@pytest.fixture(scope="module")
def sessions() -> dict[Path, Session]:
    """Every document worked through once; an error is raised by `session`, in the test that asks for it."""
    return {}


def session(document: Path, sessions: dict[Path, Session], factory: pytest.TempPathFactory) -> Session:
    if document not in sessions:
        folder = factory.mktemp(document.stem.lower())
        one = Session(folder, document)
        paths, modules = list(sys.path), set(sys.modules)
        sys.path[:0] = [str(folder), str(EXAMPLES)]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with chdir(folder):
                one.work_through()
        finally:
            torch.set_num_threads(threads)
            sys.path[:] = paths
            for name in set(sys.modules) - modules:
                if getattr(sys.modules[name], "__file__", None) and Path(
                    str(sys.modules[name].__file__)
                ).is_relative_to(folder):
                    del sys.modules[name]
        sessions[document] = one
    return sessions[document]


@every_document
def test_blocks_and_commands_run(document, sessions, tmp_path_factory):
    one = session(document, sessions, tmp_path_factory)
    written = sum(len(commands(block)) for block in blocks(document))
    mine = [c for block in blocks(document) for c in commands(block) if c[0] == "archgrad"]
    assert len(one.ran) + len(one.checked) == len(mine) <= written


def test_enough_of_the_documents_runs(sessions, tmp_path_factory):
    """The test above would be content with documents that show nothing."""
    ran = {d.name: session(d, sessions, tmp_path_factory).ran for d in DOCUMENTS}
    assert {c.split()[1] for c in ran["README.md"]} >= {"search", "derive", "train", "export", "report"}
    python = [b for d in DOCUMENTS for b in blocks(d) if b.language == "python"]
    assert len(python) >= 12
    assert {b.language for d in DOCUMENTS for b in blocks(d)} <= {
        "python",
        "sh",
        "console",
        "yaml",
        "text",
        "math",
    }


@every_document
def test_yaml_blocks_are_valid_settings(document, tmp_path):
    for block in blocks(document):
        if block.language == "yaml":
            (tmp_path / "settings.yaml").write_text(block.text, encoding="utf-8")
            check(read(tmp_path / "settings.yaml"))


def slug(heading: str) -> str:
    """A heading as the anchor that GitHub makes of it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(document: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)}


@every_document
def test_links_lead_somewhere(document):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        inside = file.exists() and file.is_relative_to(ROOT)
        if not inside or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def known_options() -> set[str]:
    groups: list[click.Command] = [main, *main.commands.values()]
    return {
        text
        for c in groups
        for p in c.params
        if isinstance(p, click.Option)
        for text in (*p.opts, *p.secondary_opts)
    } | {"--help"}


def wrong_key(text: str) -> bool:
    """Whether `text` looks like a configuration key and is none."""
    section, *path = text.partition("=")[0].split(".")
    if section not in Config.model_fields or not path:
        return False
    settings = {name for space in SPACES for name in as_space(SPACES[space]).settings()}
    if section == "train" and path[0] == "space":
        return len(path) > 1 and path[1] not in settings
    model = Config.model_fields[section].annotation
    known = set(getattr(model, "model_fields", ()))
    if section in ("diagnostics", "alarms"):
        known |= set(FAMILIES[section])
    elif section == "space":
        known |= settings
    elif section in ("sampler", "hypergradient"):
        table = FAMILIES[f"{section}s"]
        for entry in table.values():
            module, _, name = entry.target.partition(":")
            known |= set(getattr(getattr(importlib.import_module(module), name), "__dataclass_fields__", ()))
    return path[0] not in known


FILE = re.compile(
    r"[\w.<>*/-]+\.(py|md|json|jsonl|ya?ml|toml|html|png|txt|safetensors|onnx|pt|sha256)|[\w./-]+/"
)


def exists(text: str, document: Path, run: Path, written: set[str]) -> bool:
    """Whether a file that a document names is in the repository, in a run, or shown in the document."""
    pattern = re.sub(r"<\w+>", "*", text.rstrip("/"))
    places = [ROOT, document.parent, SOURCE, run]
    if text in written or any(next(place.glob(pattern), None) for place in places):
        return True
    return any(fnmatch.fnmatch(p.name, pattern) for place in (SOURCE, run) for p in place.rglob("*"))


# by `make setup`, `archgrad train --genotype`, lab, channels, sweep and experiment, by searches with stages,
# a selection or stopping rules
MADE = {
    ".venv/",
    "genotype.json",
    "lab.json",
    "lab.html",
    "statistics.json",
    "selection-<n>.json",
    "selection-<n>.svg",
    "selection-<n>.html",
    "sweep.json",
    "latency.json",
    "stages/",
    "plan.json",
    "kept.json",
    "selection.jsonl",
    "selection.json",
    "logits/",
    "stopped.json",
    "actions.jsonl",
    "given_up.jsonl",
    "rollback/",
    "experiment.json",
    "experiment.html",
}


@every_document
def test_what_is_named_exists(document, sessions, tmp_path_factory):
    run = session(README, sessions, tmp_path_factory).folder / "runs" / "first"
    written = {block.file for block in blocks(document) if block.file} | MADE
    wrong = []
    for text in spans(prose(document)):
        words = text.split()
        if words[0] == "archgrad" and len(words) > 1 and words[1] not in main.commands:
            wrong.append(f"{text}: no such verb")
        wrong += [f"{text}: no such option" for w in words if w.startswith("--") and w not in known_options()]
        if words[0] == "make" and not re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M):
            wrong.append(f"{text}: no such target")
        if FILE.fullmatch(text):
            if not exists(text, document, run, written):
                wrong.append(f"{text}: no such file")
        elif re.fullmatch(r"[a-z_]+(\.[a-z_]+)+(=.*)?", text) and wrong_key(text):
            wrong.append(f"{text}: no such key")
        elif re.fullmatch(r"archgrad(\.\w+)+", text) and not importable(text):
            wrong.append(f"{text}: cannot be imported")
    assert not wrong, "\n".join(wrong)


def importable(dotted: str) -> bool:
    """Whether ``package.module.object`` is there."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            if not hasattr(found, name):
                return False
            found = getattr(found, name)
        return True
    return False


def test_the_checks_of_names_see_wrong_ones():
    assert wrong_key("search.epoch=3")
    assert wrong_key("train.space.chanels")
    assert wrong_key("sampler.tau")
    assert not wrong_key("search.epochs=3")
    assert not wrong_key("train.space.channels")
    assert not wrong_key("hypergradient.epsilon")
    assert not importable("archgrad.testing.check_everything")
    assert "--overwrite" not in known_options()
    assert not exists("nothing.py", README, ROOT / "docs", set())


# ---- docs/architecture.md: the formats


def described(beginning: str) -> list[str]:
    """Inline code of the paragraph that begins so."""
    (paragraph,) = [p for p in prose(ARCHITECTURE).split("\n\n") if p.startswith(beginning)]
    return spans(paragraph.removeprefix(beginning))


def keys(beginning: str) -> set[str]:
    return {span for span in described(beginning) if re.fullmatch(r"[a-z_]+", span)}


@pytest.fixture(scope="module")
def readme_run(sessions, tmp_path_factory) -> Path:
    """The run folder of the README's session."""
    return session(README, sessions, tmp_path_factory).folder / "runs" / "first"


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_lines_of_the_metrics_are_as_described(readme_run):
    assert set(lines(readme_run / "metrics.jsonl")[0]) == keys("A line of `metrics.jsonl`:")
    found = lines(readme_run / "train" / "derived" / "metrics.jsonl")[0]
    assert set(found) == keys("A line of `train/<name>/metrics.jsonl`:")


def test_results_are_as_described(readme_run):
    found = json.loads((readme_run / "train" / "derived" / "result.json").read_text("utf-8"))
    assert set(found) == keys("`train/<name>/result.json`:")


def test_derivations_are_as_described(readme_run):
    found = json.loads((readme_run / "derivation.json").read_text("utf-8"))
    assert set(found) | set(found["choices"][0]) == keys("`derivation.json`:")


def test_the_table_of_files_is_the_run_folder(readme_run):
    rows = re.findall(r"^\| (`.*?) \|", prose(ARCHITECTURE).partition("## A run folder")[2], re.MULTILINE)
    named = {span.split("/")[0] for row in rows for span in spans(row)}
    assert {path.name for path in readme_run.iterdir()} == named


# ---- completeness


def test_choosing_names_every_part():
    text = set(spans(prose(CHOOSING)))
    families = ("methods", "spaces", "samplers", "hypergradients", "costs", "rules")
    names = {name for family in families for name in FAMILIES[family]}
    assert len(names) >= 16
    assert not names - text


def test_claims_have_a_source():
    """A row or paragraph that says measured or published says where."""
    claims = [p for p in re.split(r"\n\n|\n(?=[|-] )", prose(CHOOSING)) if "**" in p]
    measured = [c for c in claims if "**measured here**" in c]
    published = [c for c in claims if "**published**" in c]
    assert len(published) >= 5
    assert not [c for c in measured if "benchmarks/results/" not in c and "tests/" not in c]
    assert not [c for c in published if c.count("arXiv") < c.count("**published**")]


def test_every_public_name_is_used_where_it_is_tested():
    sources = [file.read_text(encoding="utf-8") for file in EXAMPLES.glob("*.py")]
    sources += [b.text for d in DOCUMENTS for b in blocks(d) if b.language == "python"]
    for file in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                sources += [example.source for example in doctest.DocTestParser().get_examples(text)]
    used: set[str] = set()
    for source in sources:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Name):
                used.add(node.id)
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
    public = set(archgrad.__all__)
    assert len(public) >= 17
    assert not public - used


def test_documents_name_no_machine():
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        assert not re.search(r"/(?:home|root|Users|tmp|work)/", text), document.name
        assert os.sep + "shared" + os.sep not in text, document.name


def test_the_results_in_the_documents_are_those_of_the_benchmarks() -> None:
    tables = ROOT / "benchmarks" / "tables.py"
    printed = subprocess.run([sys.executable, str(tables)], capture_output=True, text=True, check=True).stdout
    parts = printed.split("==> ")[1:]
    assert [part.partition("\n")[0] for part in parts] == ["README.md", "choosing.md"]
    for document, part in zip((README, CHOOSING), parts, strict=True):
        text = document.read_text(encoding="utf-8")
        block = (
            text.split("<!-- results: begin", 1)[1].split("-->", 1)[1].split("<!-- results: end -->", 1)[0]
        )
        assert block.strip() == part.partition("\n")[2].strip(), "run: python benchmarks/tables.py --write"
        assert "| `" in block
