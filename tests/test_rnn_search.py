"""Searching and training on a text: the same states, gradients and files, stopped or not."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from archgrad.choice import Sample, Supernet, concrete, supernet
from archgrad.datasets.text import TextData, numbered
from archgrad.errors import ConfigError, Stopped, UserError, WorkError
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.language import LanguageTask, passage, side_by_side, slowness
from archgrad.language_train import (
    LanguagePlan,
    LanguageRecord,
    LanguageState,
    averaged,
    evaluate_language,
    train_language,
    windows,
)
from archgrad.policy import Policy
from archgrad.problem import Problem, WeightStep
from archgrad.progress import Silent
from archgrad.randomness import Streams, seeded_modules
from archgrad.runs import Run
from archgrad.samplers import SAMPLERS
from archgrad.spaces.language_model import Dropouts, LanguageModel, Window
from archgrad.spaces.lstm import LstmCore
from archgrad.spaces.rnn import darts_rnn
from archgrad.summary import trained_table
from archgrad.verbs import derive_run, export_run, report_run, search_run, train_run

T, H = 4, 5


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def little(words: int = 260, seed: int = 0) -> TextData:
    """A text of 7 words, each of which mostly decides the next."""
    chosen, draw = [0], generator(seed)
    for _ in range(words * 2):
        free = float(torch.rand((), generator=draw)) < 0.3
        chosen.append(int(torch.randint(7, (), generator=draw)) if free else (3 * chosen[-1] + 1) % 7)
    lines = [" ".join(f"w{i}" for i in chosen[k : k + 9]) for k in range(0, len(chosen), 9)]
    return numbered("little", lines[: words // 9], lines[words // 9 : words // 9 + 9], lines[-9:])


TINY: dict[str, Any] = {
    "space": {"name": "darts_rnn", "hidden": H, "nodes": 3},
    "text": {"window": T},
    "search": {"epochs": 2, "batch_size": 8},
    "weights": {"learning_rate": 1.0},
    "train": {"epochs": 3, "batch_size": 6, "space": {"hidden": H, "nodes": 3}},
    "device": {"name": "cpu", "threads": 1},
}


def task_of(data: TextData, texts: int = 8, **settings: Any) -> LanguageTask:
    with seeded_modules(0):
        network = supernet(
            darts_rnn, (T,), len(data.vocabulary), hidden=H, nodes=3, norm=True, dropout_hidden=0.2
        ).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.4, generator=generator(3))
    return LanguageTask(network, data.train, data.valid, texts, T, Streams(1), **settings)


# --- windows ---------------------------------------------------------------------------------------


def test_texts_stand_side_by_side_and_windows_follow_one_another() -> None:
    rows = side_by_side(torch.arange(23), 2)
    assert rows.shape == (11, 2)
    assert rows[:, 1].tolist() == list(range(11, 22))
    found = passage(rows, 8, 5)
    assert found.words[:, 0].tolist() == [8, 9]
    assert found.following[:, 0].tolist() == [9, 10]


def test_an_epoch_reads_its_text_once_and_carries_the_state() -> None:
    """The state that a window begins with is the one that the window before ended with."""
    data = little()
    task = task_of(data)
    z = [Sample(torch.full((6, 5), 0.2, dtype=torch.float64))]
    ends: list[Tensor] = []
    seen: list[int] = []
    for train, _ in task.steps(0, 0):
        objective = cast(Any, train)
        start = objective.start.clone()
        assert torch.equal(start, ends[-1] if ends else torch.zeros_like(start))
        for _ in range(2):  # a second call begins where the first began
            train(z)
            assert torch.equal(objective.start, start)
        ends.append(task.reached.clone())
        seen += objective.passage.words[:, 0].tolist()
    assert len(ends) == task.steps_per_epoch == (len(data.train) // 8 - 1) // T
    text = data.train.tolist()
    begin = next(k for k in range(T) if text[k : k + len(seen)] == seen)
    assert seen == text[begin : begin + len(seen)]


def test_an_architecture_step_moves_the_validation_text_on_and_nothing_else() -> None:
    task = task_of(little())
    for hypergradient in ("first_order", "unrolled", "unrolled_exact", "single_level", "implicit_neumann"):
        (train, valid), *_ = task.steps(0, 0)
        train([Sample(torch.full((6, 5), 0.2, dtype=torch.float64))])  # BatchNorm and state are not fresh
        task.reached_valid.zero_()
        before = {k: v.clone() for k, v in task.network.state_dict().items()}
        _gradient(task, train, valid, hypergradient)
        after = task.network.state_dict()
        moved = [k for k in before if not torch.equal(before[k], after[k])]
        assert moved == ([] if hypergradient == "single_level" else ["reached_valid"]), hypergradient


def _gradient(task: LanguageTask, train: Any, valid: Any, name: str, alpha: Tensor | None = None) -> Tensor:
    alpha = torch.randn(6, 5, generator=generator(5), dtype=torch.float64) if alpha is None else alpha
    policy = Policy(task.groups, SAMPLERS["softmax"]())
    step = WeightStep(0.05, 0.0, 1e-3, [None] * len(task.weights))
    problem = Problem(
        train, valid, lambda a, repeat=0: policy.draw(a, 1.0, generator()), task.weights, task.buffers, step
    )
    settings = {"epsilon": 1e-4} if name == "unrolled" else {}
    return HYPERGRADIENTS[name](**settings)(problem, [alpha.requires_grad_()]).gradients[0]


def test_the_first_order_gradient_is_the_finite_difference_of_the_validation_loss() -> None:
    task = task_of(little())
    (train, valid), *_ = task.steps(0, 0)
    alpha = torch.randn(6, 5, generator=generator(5), dtype=torch.float64)
    found = _gradient(task, train, valid, "first_order", alpha.clone())
    for index in ((0, 1), (3, 4), (5, 0)):
        losses = []
        for sign in (1, -1):
            moved = alpha.clone()
            moved[index] += sign * 1e-5
            losses.append(float(valid([Sample(torch.softmax(moved, 1))]).task_loss))
        assert float(found[index]) == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-6, abs=1e-9)


def test_the_unrolled_gradient_is_that_of_the_loss_after_a_step() -> None:
    """Dropout and the state before the window are the same in every evaluation, so differences are exact."""
    task = task_of(little(), slowness=0.1)
    (train, valid), *_ = task.steps(0, 0)
    alpha = torch.randn(6, 5, generator=generator(5), dtype=torch.float64)
    exact = _gradient(task, train, valid, "unrolled_exact", alpha.clone())
    approximate = _gradient(task, train, valid, "unrolled", alpha.clone())
    kept = [w.detach().clone() for w in task.weights]
    for index in ((0, 1), (4, 2)):
        losses = []
        for sign in (1, -1):
            z = alpha.clone()
            z[index] += sign * 1e-4
            samples = [Sample(torch.softmax(z, 1))]
            gradient = torch.autograd.grad(train(samples).loss, task.weights)
            with torch.no_grad():
                for w, g in zip(task.weights, gradient, strict=True):
                    w.sub_(0.05 * (g + 1e-3 * w))
            losses.append(float(valid(samples).loss))
            with torch.no_grad():
                for w, old in zip(task.weights, kept, strict=True):
                    w.copy_(old)
        wanted = (losses[0] - losses[1]) / 2e-4
        assert float(exact[index]) == pytest.approx(wanted, rel=1e-4, abs=1e-8)
        assert float(approximate[index]) == pytest.approx(wanted, rel=1e-2, abs=1e-6)


def test_slowness_is_the_mean_square_change() -> None:
    outputs = torch.tensor([[[1.0, 0.0]], [[2.0, 2.0]], [[2.0, 0.0]]])
    assert float(slowness(outputs)) == pytest.approx((1 + 4 + 0 + 4) / 4)
    assert float(slowness(outputs[:1])) == 0.0
    task, bare = task_of(little(), slowness=0.5), task_of(little())
    z = [Sample(torch.full((6, 5), 0.2, dtype=torch.float64))]
    with_term, without = (next(iter(t.steps(0, 0)))[0](z) for t in (task, bare))
    assert float(with_term.loss) > float(without.loss)
    assert float(with_term.task_loss) == float(without.task_loss)


def test_evaluation_reads_the_whole_validation_text_and_changes_nothing() -> None:
    data = little()
    task = task_of(data)
    before = {k: v.clone() for k, v in task.network.state_dict().items()}
    z = [Sample(torch.full((6, 5), 0.2, dtype=torch.float64))]
    loss, accuracy = task.evaluate(lambda _: z)
    after = task.network.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert 0 <= accuracy <= 1
    assert 0 < loss < 10


def test_a_state_that_is_not_finite_is_not_carried_on() -> None:
    task = task_of(little())
    (train, _), *_ = task.steps(0, 0)
    with torch.no_grad():
        dict(task.network.named_parameters())["network.core.first"].fill_(float("nan"))
    outcome = train([Sample(torch.full((6, 5), 0.2, dtype=torch.float64))])
    assert not math.isfinite(float(outcome.loss))
    assert not bool(task.reached.any())


# --- the whole way ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["darts", "darts-2nd", "snas", "gdas", "random", "drnas", "fairdarts"])
def test_every_kind_of_method_searches_and_derives(tmp_path: Path, method: str) -> None:
    run = search_run({**TINY, "method": method}, tmp_path / "run", data=little())
    lines = run.read_lines("metrics.jsonl")
    assert len(lines) == 2
    assert all(math.isfinite(line["train_loss"]) and math.isfinite(line["valid_loss"]) for line in lines)
    assert len(lines[0]["probabilities"]) == 6
    derivation = derive_run(tmp_path / "run")
    assert derivation.rule == "rnn"
    for rule in ("argmax", "darts", "snas"):
        with pytest.raises(UserError, match=rf"{rule!r} keeps several edges into a node.*use rule 'rnn'"):
            derive_run(tmp_path / "run", rule)
    kept = [name for name, candidate in derivation.architecture.items() if candidate != "none"]
    assert [name.split("<-")[0] for name in kept] == ["recurrent/1", "recurrent/2", "recurrent/3"]
    vocabulary = len(little().vocabulary)
    assert derivation.parameters == (4 + 3 * 2) * H * H + vocabulary * (H + 1)
    assert derivation.macs == (4 + 3 * 2) * H * H + vocabulary * H
    config = run.read_config()
    assert config["weights"]["clip"] == 0.25
    assert config["weights"]["momentum"] == 0.0
    assert "crop" not in config["data"]


class StopAt(Silent):
    """Raises a real signal while step `at` is being reported."""

    def __init__(self, at: int) -> None:
        self.at = at

    def update(self, done: int, numbers: str) -> None:
        if done >= self.at:
            signal.raise_signal(signal.SIGINT)


def plain(document: Any) -> Any:
    """Without the times."""
    return [{k: v for k, v in line.items() if k != "seconds"} for line in document]


def same(a: Any, b: Any) -> int:
    if isinstance(a, Tensor):
        assert torch.equal(a, b)
        return 1
    if isinstance(a, dict):
        assert list(a) == list(b)
        return sum(same(a[k], b[k]) for k in a if k != "seconds")
    if isinstance(a, list | tuple):
        return sum(same(x, y) for x, y in zip(a, b, strict=True))
    assert a == b
    return 0


@pytest.mark.parametrize("method", ["darts", "snas", "gdas"])
@pytest.mark.parametrize("at", [3, 11])
def test_a_search_resumes_bit_for_bit(tmp_path: Path, method: str, at: int) -> None:
    settings = {**TINY, "method": method, "space": {**TINY["space"], "dropout_hidden": 0.3}}
    whole = search_run(settings, tmp_path / "whole", data=little())
    with pytest.raises(Stopped, match="go on with"):
        search_run(settings, tmp_path / "cut", data=little(), progress=StopAt(at))
    cut = search_run({}, tmp_path / "cut", data=little(), resume=True)
    assert plain(whole.read_lines("metrics.jsonl")) == plain(cut.read_lines("metrics.jsonl"))
    newest = [run.load_checkpoint()[0] for run in (whole, cut)]
    assert same(*newest) == 15
    assert bool(cast(Any, newest[0])["network"]["reached"].any())


def test_training_beside_controls_and_its_report(tmp_path: Path) -> None:
    data = little()
    search_run({**TINY, "method": "gdas"}, tmp_path / "run", data=data)
    derive_run(tmp_path / "run")
    trained = train_run(tmp_path / "run", controls=2, data=data)
    results = [trained.derived, *trained.controls]
    assert [r["name"] for r in results] == ["derived", "random-0", "random-1", "lstm"]
    for result in results:
        assert result["test_perplexity"] == pytest.approx(math.exp(result["test_loss"]))
        assert result["valid_perplexity"] == pytest.approx(math.exp(result["valid_loss"]))
        assert result["test_words"] == len(data.test) // 10 * 10 - 10
        lines = Run(tmp_path / "run").read_lines(f"train/{result['name']}/metrics.jsonl")
        assert len(lines) == 3
        assert min(line["valid_loss"] for line in lines) == result["valid_loss"]
    assert abs(trained.controls[-1]["parameters"] / trained.derived["parameters"] - 1) < 0.1
    again = train_run(tmp_path / "run", controls=2, data=data)
    assert again == trained
    with pytest.raises(UserError, match="trained otherwise"):
        train_run(tmp_path / "run", {"train": {"epochs": 4}}, data=data)
    page = report_run(tmp_path / "run").read_text()
    assert f"test perplexity of {trained.derived['test_perplexity']:.2f}" in page
    shown = trained_table(trained.derived, trained.controls)
    assert f"perplexity {trained.derived['test_perplexity']:.2f} against" in shown
    assert "of 2 random cell(s), best control" in shown
    exported = export_run(tmp_path / "run", data=data)
    assert exported.onnx.largest_difference < 1e-5
    assert exported.standalone.largest_difference < 1e-5
    with pytest.raises(UserError, match="the data differ"):
        export_run(tmp_path / "run", data=little(seed=4))


def test_the_weights_of_the_best_epoch_are_kept(tmp_path: Path) -> None:
    data = little()
    settings = {**TINY, "train": {**TINY["train"], "epochs": 8, "learning_rate": 60.0, "clip": 1.0}}
    run = search_run({**settings, "method": "random"}, tmp_path / "run", data=data)
    architecture = derive_run(tmp_path / "run").architecture
    result = train_run(tmp_path / "run", data=data).derived
    losses = [line["valid_loss"] for line in run.read_lines("train/derived/metrics.jsonl")]
    assert min(losses[:-1]) < losses[-1]  # else this says nothing
    network = concrete(darts_rnn, architecture, (T,), len(data.vocabulary), hidden=H, nodes=3)
    network.load_state_dict(load_file(tmp_path / "run/train/derived/weights.safetensors"))
    found = evaluate_language(cast(LanguageModel, network), data.valid, T)
    assert found.loss == pytest.approx(min(losses))
    assert result["valid_loss"] == min(losses)
    tested = evaluate_language(cast(LanguageModel, network), data.test, T)
    assert result["test_loss"] == pytest.approx(tested.loss)


def test_a_lower_perplexity_is_better() -> None:
    def result(kind: str, loss: float) -> dict[str, Any]:
        numbers = {"test_loss": loss, "test_perplexity": math.exp(loss), "valid_perplexity": 1.0}
        return {"name": kind, "kind": kind, "parameters": 9, "macs": 9, "seconds": 1.0, **numbers}

    controls = [result("random", 5.0), result("random", 5.02), result("lstm", 4.95)]
    shown = trained_table(result("derived", 4.5), controls)
    assert "the search beat its controls: perplexity 90.02 against 149.90 ×/÷ 1.014 of 2" in shown
    assert "best control 141.17" in shown
    assert "did NOT beat" in trained_table(result("derived", 5.5), controls)
    assert "did not clearly beat" in trained_table(result("derived", 4.96), controls)


@pytest.mark.parametrize("at", [2, 25])
def test_training_resumes_bit_for_bit(tmp_path: Path, at: int) -> None:
    data, settings = little(), {**TINY, "text": {"window": T, "switch_after": 1}}
    for name in ("whole", "cut"):
        search_run({**settings, "method": "random"}, tmp_path / name, data=data)
        derive_run(tmp_path / name)
    train_run(tmp_path / "whole", data=data)
    with pytest.raises(Stopped, match="archgrad train"):
        train_run(tmp_path / "cut", data=data, progress=StopAt(at))
    train_run(tmp_path / "cut", data=data)
    files = [tmp_path / name / "train/derived" for name in ("whole", "cut")]
    assert (
        files[0].joinpath("weights.safetensors").read_bytes()
        == files[1].joinpath("weights.safetensors").read_bytes()
    )
    lines = [[json.loads(x) for x in (f / "metrics.jsonl").read_text().splitlines()] for f in files]
    assert plain(lines[0]) == plain(lines[1])


# --- training --------------------------------------------------------------------------------------


def model(hidden: int = 6, **dropouts: float) -> LanguageModel:
    with seeded_modules(2):
        return LanguageModel(LstmCore(hidden), 9, hidden, Dropouts(**dropouts))


def trained(
    plan: LanguagePlan, data: TextData, network: LanguageModel | None = None
) -> tuple[LanguageModel, LanguageState, list[LanguageRecord]]:
    network = network or model()
    state = LanguageState(torch.optim.SGD(network.parameters(), lr=1.0), network.zero_state(plan.texts))
    records = train_language(network, data.train, data.valid, state, plan, Streams(0), "x")
    return network, state, [r for r in records if isinstance(r, LanguageRecord)]


def test_windows_vary_as_published() -> None:
    """Lengths of N(T, 5²), one in twenty around T/2; they cover the text without a gap."""
    found = windows(200_001, 35, generator(0))
    starts = [start for start, _ in found]
    lengths = torch.tensor([float(length) for _, length in found[:-1]])
    assert starts[0] == 0
    assert all(a + n == b for (a, n), b in zip(found, starts[1:], strict=False))
    assert found[-1][0] + found[-1][1] == 200_000
    assert lengths.min() >= 5
    assert lengths.max() <= 55
    # int() cuts half a word off in the mean; mean 0.95·35 + 0.05·17.5, variance 25 + 0.05·0.95·17.5²
    count = len(lengths)
    mean, variance = 0.95 * 35 + 0.05 * 17.5 - 0.5, 25 + 0.05 * 0.95 * 17.5**2
    assert abs(float(lengths.mean()) - mean) < 4 * (variance / count) ** 0.5
    short = float((lengths < 22).float().mean())
    assert abs(short - 0.05 * 0.8) < 4 * (0.05 / count) ** 0.5 + 0.01
    assert windows(200_001, 35, generator(0)) == found


def test_it_learns_the_text() -> None:
    data = little(900)
    plan = LanguagePlan(12, 4, 8, 2.0, clip=1.0)
    _, state, records = trained(plan, data)
    # a word decides the next in about 3 of 4 cases: 0.7 + 0.3/7
    assert records[-1].valid_accuracy > 0.5
    assert records[0].valid_loss > records[-1].valid_loss
    assert state.best_loss == min(r.valid_loss for r in records)


def test_averaging_begins_when_the_validation_loss_stalls() -> None:
    """From then on the plain mean of the weights is what is evaluated; training goes on from the last."""
    data = little(400)
    plan = LanguagePlan(14, 4, 8, 20.0, clip=2.0, switch_after=2)
    network, state, records = trained(plan, data)
    losses = [r.valid_loss for r in records]
    wanted = next(k for k in range(3, 14) if losses[k] > min(losses[: k - 2]))
    assert [r.averaged for r in records] == [k > wanted for k in range(14)]
    assert len(state.valid_losses) == wanted + 1
    assert state.averages is not None
    with averaged(network, state):
        found = evaluate_language(network, data.valid, 8)
        assert found.loss == losses[-1]
        assert all(torch.equal(p, a) for p, a in zip(network.parameters(), state.averages, strict=True))
    last = evaluate_language(network, data.valid, 8)
    assert last.loss != losses[-1]


def test_the_average_is_that_of_asgd() -> None:
    """ASGD with λ = 0 and t0 = 0 is SGD with the mean of the weights beside it."""
    data = little(400)
    network, reference = model(), model()
    plan = LanguagePlan(1, 4, 8, 1.0)
    state = LanguageState(torch.optim.SGD(network.parameters(), lr=1.0), network.zero_state(4))
    state.averages = [p.detach().clone() for p in network.parameters()]
    steps: list[list[Tensor]] = []
    for record in train_language(network, data.train, data.valid, state, plan, Streams(0), "x"):
        if not isinstance(record, LanguageRecord):
            steps.append([p.detach().clone() for p in network.parameters()])
    means = [torch.stack(column).mean(0) for column in zip(*steps, strict=True)]
    for got, wanted in zip(state.averages, means, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
    # PyTorch's ASGD on the same gradients: its mean begins a step later
    optimizer = torch.optim.ASGD(reference.parameters(), lr=1.0, t0=0, lambd=0.0, alpha=0.0)
    for step in steps:
        for p, after in zip(reference.parameters(), step, strict=True):
            p.grad = p.detach() - after
        optimizer.step()
    late = [torch.stack(column[1:]).mean(0) for column in zip(*steps, strict=True)]
    for p, wanted in zip(reference.parameters(), late, strict=True):
        torch.testing.assert_close(optimizer.state[p]["ax"], wanted, rtol=1e-4, atol=1e-5)


def test_evaluation_is_the_mean_over_words_with_the_state_carried() -> None:
    data, network = little(300), model()
    nn.init.normal_(network.embedding.weight, generator=generator(1))
    long = evaluate_language(network, data.test, 1000)
    short = evaluate_language(network, data.test, 3)
    assert long.words == short.words
    assert short.loss == pytest.approx(long.loss, rel=1e-5)
    assert long.perplexity == pytest.approx(math.exp(long.loss))
    assert network.training


def test_a_diverged_training_ends_with_a_message() -> None:
    network = model()
    with torch.no_grad():
        network.decoder_bias.fill_(float("nan"))
    with pytest.raises(WorkError, match=r"lower train\.learning_rate"):
        trained(LanguagePlan(1, 4, 8, 1.0), little(400), network)


# --- wrong input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data": {"crop": 2}}, r"data\.crop: the space 'darts_rnn' reads texts"),
        ({"train": {"cutout": 8}}, r"train\.cutout: the space 'darts_rnn' reads texts"),
        (
            {"cost": {"name": "macs"}},
            r"cost\.name: every architecture of the space 'darts_rnn' costs the same",
        ),
        ({"search": {"batch_size": 100}}, r"search\.batch_size: .*give at most \d+"),
        ({"train": {"batch_size": 100}}, r"train\.batch_size: .*give at most \d+"),
        ({"space": {"name": "darts_rnn", "nodes": 3, "dropout_x": 1.5}}, r"dropout_x: a probability"),
        ({"space": {"name": "darts_rnn", "candidates": ["none", "swish"]}}, "unknown 'swish'"),
        ({"space": {"name": "darts_rnn", "hidden": 4, "candidates": ["tanh"]}}, "nothing to search"),
        ({"derive": {"rule": "snas"}}, r"derive\.rule: the rule 'snas' keeps several.*use rule 'rnn'"),
        ({"text": {"window": 1}}, r"text\.window"),
        ({"text": {"windows": 8}}, r"text\.windows: unknown key"),
    ],
)
def test_wrong_settings_are_said_before_any_work(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    given = {**TINY, "method": "gdas"}
    for key, value in settings.items():
        given[key] = {**given.get(key, {}), **value} if key != "space" else value
    with pytest.raises((ConfigError, UserError), match=message):
        search_run(given, tmp_path / "run", data=little())
    assert not (tmp_path / "run").exists()


def test_texts_and_images_are_told_apart(tmp_path: Path, few_digits: Any) -> None:
    with pytest.raises(UserError, match="'nasbench201' reads images, and 'little' is a text; search with"):
        search_run({"method": "gdas"}, tmp_path / "a", data=little())
    with pytest.raises(UserError, match="'darts_rnn' reads a text, and 'few digits' is images"):
        search_run({**TINY, "method": "gdas"}, tmp_path / "b", data=few_digits)
    with pytest.raises(UserError, match=r"text\.window: the space 'nasbench201' reads images, and no text"):
        search_run({"text": {"window": 4}}, tmp_path / "c", data=few_digits)


def test_other_data_are_refused_on_the_way(tmp_path: Path) -> None:
    search_run({**TINY, "method": "random"}, tmp_path / "run", data=little())
    derive_run(tmp_path / "run")
    with pytest.raises(UserError, match="the data differ from those of the run"):
        train_run(tmp_path / "run", data=little(seed=4))


def test_published_sizes_for_large_texts_and_smaller_ones_below() -> None:
    from archgrad.language_settings import TextSize
    from archgrad.settings import resolve

    given = {"method": "darts", "space": {"name": "darts_rnn"}}
    large = resolve(given, TextSize("ptb", 929_589, 10_000)).config
    assert large.search.batch_size == 256
    assert large.space.settings()["hidden"] == 300
    assert large.train.space["hidden"] == 850
    assert (large.search.epochs, large.architecture.learning_rate, large.weights.learning_rate) == (
        50,
        3e-3,
        20,
    )
    assert large.train.epochs == 8000
    small = resolve(given, TextSize("mine", 20_000, 2_000))
    assert small.config.space.settings()["hidden"] == 64
    assert small.config.search.batch_size == 16
    assert any(note.startswith("space.hidden = 64") for note in small.notes)
    ahead = resolve({**given, "method": "darts-2nd"}, TextSize("ptb", 929_589, 10_000))
    assert ahead.config.weights.learning_rate == 1.0
    assert any("looks ahead is not clipped" in note for note in ahead.notes)
    middle = resolve(given, TextSize("mine", 130_000, 9_000)).config
    assert 64 < cast(int, middle.space.settings()["hidden"]) < 300
    # what is resolved resolves to itself
    again = resolve(middle.document(), TextSize("mine", 130_000, 9_000)).config
    assert again == middle


def test_the_window_of_a_supernet_is_that_of_its_words() -> None:
    data = little()
    network = cast(Supernet, task_of(data).network)
    window = Window(data.train[:8].view(4, 2), torch.zeros(2, H, dtype=torch.float64))
    z = [Sample(torch.full((6, 5), 0.2, dtype=torch.float64))]
    reading = cast(Any, network(cast(Tensor, window), z))
    assert reading.logits.shape == (4, 2, len(data.vocabulary))
