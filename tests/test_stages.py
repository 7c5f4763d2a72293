"""Searches in stages, restricted searches, and the selection of a run, on digits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from archgrad.choice import supernet
from archgrad.config_problems import check, search_problems
from archgrad.datasets.images import ImageData
from archgrad.errors import ConfigError, Stopped, UserError
from archgrad.network_features import NetworkFeatures
from archgrad.parts import Parts
from archgrad.runs import Run
from archgrad.settings import DataSize, resolve
from archgrad.spaces import SPACES
from archgrad.spaces.skip_dropout import SkipDropout, rate, set_skip_dropout, with_skip_dropout
from archgrad.spaces.space import as_space
from archgrad.verbs import derive_run, search_run, train_run
from archgrad.verbs import search as search_verb
from archgrad.verbs.contents import read_config, read_groups, read_logits
from archgrad.verbs.select import read_selection
from archgrad.verbs.staged import stage_settings, whole_groups

Tiny = Callable[..., dict[str, Any]]
STAGES = [
    {"keep": 3, "settings": {"search": {"epochs": 1}}},
    {"keep": 0.5, "settings": {"space": {"channels": 8}}},
    {},
]


def logits(folder: Path) -> list[torch.Tensor]:
    return read_logits(Run.open(folder), "logits.safetensors")


def test_every_stage_searches_what_the_one_before_left(
    few_digits: ImageData, tiny: Tiny, tmp_path: Path
) -> None:
    run = search_run(tiny(stages=STAGES), tmp_path / "run", data=few_digits)
    first, second = (Run.open(run.folder / "stages" / f"stage-{n}") for n in (1, 2))
    whole = read_groups(first)[0].candidates
    kept = first.read_json("kept.json")
    (alpha,) = logits(first.folder)
    for e, name in enumerate(read_groups(first)[0].names):
        strongest = {whole[k] for k in alpha[e].topk(3).indices.tolist()}
        assert set(kept[name]) == strongest
    searched = {name: g.candidates for g in read_groups(second) for name in g.names}
    assert {name: list(c) for name, c in searched.items()} == kept
    last = {name: g.candidates for g in read_groups(run) for name in g.names}
    assert {name: list(c) for name, c in last.items()} == second.read_json("kept.json")
    assert all(len(c) == 2 for c in last.values())  # half of three, rounded
    assert [r.read_config()["search"]["epochs"] for r in (first, second, run)] == [1, 2, 2]
    assert [r.read_config()["space"]["channels"] for r in (first, second, run)] == [2, 8, 2]
    derived = derive_run(run.folder).architecture
    assert all(derived[name] in (*last[name], "none") for name in derived)
    # controls are of the space that the first stage had, not of what it left over
    parts = Parts.of(read_config(run), few_digits)
    assert whole_groups(run, parts) == read_groups(first)
    assert len(train_run(run.folder, data=few_digits, controls=1).controls) == 2
    with pytest.raises(UserError, match="already holds a run"):
        search_run(tiny(stages=STAGES), run.folder, data=few_digits)


@pytest.mark.parametrize("stage", [1, 2])
def test_a_staged_search_goes_on_where_it_was_stopped(
    few_digits: ImageData, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: int
) -> None:
    settings = tiny(stages=[{"keep": 3}, {}], search={"epochs": 2})
    whole = search_run(settings, tmp_path / "whole", data=few_digits)
    begun = 0

    class StopNow(search_verb.StopRequest):
        """Asks for a stop in one stage, at the end of its first epoch."""

        def __enter__(self) -> StopNow:
            nonlocal begun
            begun += 1
            super().__enter__()
            if begun == stage:
                self.requested = "a test"
            return self

    with monkeypatch.context() as patched:
        patched.setattr(search_verb, "StopRequest", StopNow)
        with pytest.raises(Stopped, match=rf"(?s)of stage {stage} of 2; go on with\n.* --run \S*again --res"):
            search_run(settings, tmp_path / "again", data=few_digits)
    with pytest.raises(UserError, match=r"holds stages of a search: go on with --resume|already holds a run"):
        search_run(settings, tmp_path / "again", data=few_digits)
    again = search_run({}, tmp_path / "again", data=few_digits, resume=True)
    for part in ("", "stages/stage-1"):
        for a, b in zip(logits(whole.folder / part), logits(again.folder / part), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("stages", "says"),
    [
        ([{"keep": 3}, {"keep": 2}], "nothing follows the last stage"),
        ([{"settings": {"method": "snas"}}], "stage 1 sets method, which is one for all stages"),
        ([{"keep": 2, "settings": {"search": {"epochs": -1}}}, {}], "stage 1: search.epochs"),
        ([{"keep": 0}, {}], "stages"),
        ([{"settings": {"space": {"cell": 3}}}], "stage 1: space: unknown setting 'cell'"),
    ],
)
def test_wrong_stages_are_refused_before_the_first(
    few_digits: ImageData, tiny: Tiny, tmp_path: Path, stages: Any, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        search_run(tiny(stages=stages), tmp_path / "run", data=few_digits)
    assert not (tmp_path / "run").exists()


def test_on_small_data_the_stages_of_a_preset_have_one_size() -> None:
    given = {"method": "pdarts", "space": {"name": "darts"}}
    small, large = DataSize("digits", 1_500, (1, 8, 8)), DataSize("cifar10", 50_000, (3, 32, 32), True, True)
    found, notes = stage_settings(given, check(given), large)
    assert [s["space"]["cells"] for s in found] == [5, 11, 17]
    assert [s["search"]["skip_dropout"] for s in found] == [0.1, 0.4, 0.7]
    assert notes == []
    found, notes = stage_settings(given, check(given), small)
    assert [resolve(s, small).config.space.settings()["cells"] for s in found] == [3, 3, 3]
    assert notes == ["stages: the data are small, so space.cells are the same in all of them"]
    own = {**given, "stages": [{"keep": 4, "settings": {"space": {"cells": 4}}}, {}]}
    found, notes = stage_settings(own, check(own), small)
    assert [resolve(s, small).config.space.settings()["cells"] for s in found] == [4, 3]


def test_a_user_may_restrict_a_search(few_digits: ImageData, tiny: Tiny, tmp_path: Path) -> None:
    kept = {"cell/1<-0": ["skip_connect", "nor_conv_3x3"], "cell/3*": ["none", "nor_conv_1x1"]}
    run = search_run(tiny(restrict=kept, budget={"macs": "14k"}), tmp_path / "run", data=few_digits)
    assert run.read_config()["restrict"] == kept
    derivation = derive_run(run.folder)
    assert derivation.architecture["cell/1<-0"] in kept["cell/1<-0"]
    assert derivation.budgets[0]["met"]
    for wrong, says in (
        ({"cell/9": ["none"]}, "makes no choice 'cell/9'"),
        ({"cell/*": ["conv"]}, "no candidate 'conv'"),
    ):
        with pytest.raises(UserError, match=says):
            search_run(tiny(restrict=wrong), tmp_path / "wrong", data=few_digits)
    with pytest.raises(UserError, match="a latency table has all candidates"):
        search_run(
            tiny(restrict=kept, budget={"latency": "2ms@table.json"}), tmp_path / "wrong", data=few_digits
        )


SELECTING = {"name": "perturbation", "tune_epochs": 1}


def test_what_was_selected_is_derived(few_digits: ImageData, tiny: Tiny, tmp_path: Path) -> None:
    settings = tiny(method="darts", selection=SELECTING, search={"epochs": 1})
    run = search_run(settings, tmp_path / "run", data=few_digits)
    decided = read_selection(run)
    assert decided is not None
    derivation = derive_run(run.folder)
    assert derivation.rule == "perturbation"
    assert dict(derivation.architecture) == {d.choice: d.chosen for d in decided}
    for decision in derivation.decisions:
        (scores,) = (d.scores for d in decided if d.choice == decision.name)
        assert scores[decision.winner] == min(scores.values())
        assert decision.margin == decision.winner_probability - decision.runner_up_probability
    by_logits = derive_run(run.folder, rule="argmax")
    assert by_logits.rule == "argmax"
    # the logits are those of the search, before any tuning
    plain = search_run({**settings, "selection": {"name": "none"}}, tmp_path / "plain", data=few_digits)
    assert all(torch.equal(a, b) for a, b in zip(logits(run.folder), logits(plain.folder), strict=True))
    (run.folder / "selection.json").unlink()
    assert "the selection is not finished: derived from the logits" in derive_run(run.folder).warnings


def test_a_selection_goes_on_where_it_was_stopped(
    few_digits: ImageData, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny(method="darts", selection=SELECTING, search={"epochs": 1})
    whole = search_run(settings, tmp_path / "whole", data=few_digits)
    written = Run.append

    def interrupted(run: Run, name: str, line: Any) -> None:
        written(run, name, line)
        if name == "selection.jsonl" and len(run.read_lines(name)) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Run, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            search_run(settings, tmp_path / "again", data=few_digits)
    assert read_selection(Run.open(tmp_path / "again")) is None
    again = search_run({}, tmp_path / "again", data=few_digits, resume=True)
    assert read_selection(again) == read_selection(whole)
    assert all(torch.equal(a, b) for a, b in zip(logits(whole.folder), logits(again.folder), strict=True))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "random"}, "trains no logits, so no mixture"),
        ({"budget": {"macs": "14k"}}, "knows no budget"),
        ({"method": "enas"}, "choices depend on one another"),
        ({"selection": {"tune_epochs": 3}}, "nothing is selected after the search"),
        ({"selection": {"name": "perturb"}}, "selection.name"),
    ],
)
def test_wrong_selections_are_refused(tiny: Tiny, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check({**tiny(), "selection": SELECTING, **changes})


def test_dropout_on_skip_connections(few_digits: ImageData, tiny: Tiny) -> None:
    builder = as_space(SPACES["nasbench201"]).builder
    network = supernet(with_skip_dropout(builder), (1, 8, 8), 10, channels=4, cells=1)
    plain = supernet(builder, (1, 8, 8), 10, channels=4, cells=1)
    assert network.groups == plain.groups
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in plain.named_parameters()]
    dropping = [m for m in network.modules() if isinstance(m, SkipDropout)]
    identities = [
        c.options[c.candidates.index("skip_connect")]
        for c in plain.choices()
        if isinstance(c.options[c.candidates.index("skip_connect")], nn.Identity)
    ]
    assert len(dropping) == len(identities) > 0
    set_skip_dropout(network, 0.25)
    x = torch.ones(200, 10, 10)
    dropping[0].generator = torch.Generator().manual_seed(0)
    y = dropping[0].train()(x)
    assert y.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    assert float((y == 0).float().mean()) == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / x.numel()) ** 0.5)
    assert dropping[0].eval()(x) is x
    settings = tiny(search={"epochs": 3, "warmup_epochs": 1, "skip_dropout": 0.6}, method="darts")
    config = resolve(
        settings, DataSize(few_digits.name, len(few_digits.train), few_digits.shape, True)
    ).config
    parts = Parts.of(config, few_digits)
    searched = parts.supernet()
    task = parts.task(searched)
    zeros = [torch.zeros(len(g.names), len(g.candidates)) for g in searched.groups]
    samples = parts.plan(searched.groups).policy.draw(zeros, 1.0, torch.Generator())
    for epoch in (0, 1, 2):
        train, _ = next(iter(task.steps(epoch, 0)))
        first, second = train(samples), train(samples)
        assert first.loss.item() == second.loss.item()  # the same mask at every call
        found = {m.probability for m in searched.modules() if isinstance(m, SkipDropout)}
        assert found == {rate(0.6, epoch, 3, 1)}
    task.evaluate(lambda step: samples)
    assert {m.probability for m in searched.modules() if isinstance(m, SkipDropout)} == {0.0}
    without = NetworkFeatures({"edge": ("none", "nor_conv_3x3")}, drop_path=False, auxiliary=False)
    assert any("has no candidate 'skip_connect'" in p for p in search_problems(config, without, without))
