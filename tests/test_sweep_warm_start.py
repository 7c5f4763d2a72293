"""A shared warm-up: a search that begins with it is, bit for bit, one with a warm-up of its own."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from archgrad.choice import Supernet
from archgrad.errors import Stopped, UserError
from archgrad.progress import Silent
from archgrad.runs import Run
from archgrad.verbs import search_run

BUDGET = {"macs": "60k"}
STEPS = 5  # an epoch of 100 images in batches of 20


def settings(tiny: Any, method: str = "gdas", **more: Any) -> dict[str, Any]:
    return tiny(
        method=method,
        data={"validation": 0.5},
        search={"epochs": 3, "batch_size": 20, "warmup_epochs": 2},
        cost={"strength": 0.0} if method == "snas" else {},
        **more,
    )


def tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [t for part in parts for t in tensors(part)]


def lines(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in x.items() if k != "seconds"} for x in Run(folder).read_lines("metrics.jsonl")]


@pytest.fixture
def warm(tmp_path: Path, tiny: Any, few_digits: Any) -> Path:
    search_run(settings(tiny), tmp_path / "warm", data=few_digits, warm_up_only=True)
    return tmp_path / "warm"


@pytest.mark.parametrize("method", ["gdas", "snas", pytest.param("enas", marks=pytest.mark.slow)])
def test_a_search_with_a_shared_warm_up_equals_one_with_its_own(
    method: str, tmp_path: Path, tiny: Any, few_digits: Any
) -> None:
    given = settings(tiny, method)
    search_run(given, tmp_path / "warm", data=few_digits, warm_up_only=True)
    given = {**given, "budget": BUDGET}
    search_run(given, tmp_path / "own", data=few_digits)
    search_run(given, tmp_path / "shared", data=few_digits, warm=tmp_path / "warm")
    left, right = (tensors(Run(tmp_path / n).load_checkpoint()[0]) for n in ("own", "shared"))
    assert len(left) > 20
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))
    for name in ("logits.safetensors", "config.yaml", "best.json"):
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "shared" / name).read_bytes(), name
    # while it lasts, no budget was there
    assert lines(tmp_path / "shared")[2:] == lines(tmp_path / "own")[2:]
    for a, b in zip(lines(tmp_path / "shared")[:2], lines(tmp_path / "own")[:2], strict=True):
        assert a == {k: v for k, v in b.items() if k != "budgets"}


def test_the_logits_do_not_move_in_it(warm: Path) -> None:
    run = Run(warm)
    checkpoint, _ = run.load_checkpoint()
    assert checkpoint is not None
    assert checkpoint["search"]["position"][:2] == [2, 0]
    assert len(lines(warm)) == 2
    assert not checkpoint["search"]["architecture_optimizer"]["state"]  # Adam has not stepped
    assert not run.exists("logits.safetensors")
    assert not run.exists("best.json")


def test_a_search_begins_with_the_weights_and_statistics_of_the_warm_up(
    warm: Path, tmp_path: Path, tiny: Any, few_digits: Any
) -> None:
    class Seen(Exception):
        pass

    given, seen = {**settings(tiny), "budget": BUDGET}, dict[str, torch.Tensor]()

    forward = Supernet.forward

    def first_look(network: Supernet, x: torch.Tensor, samples: Any) -> torch.Tensor:
        if len(x) != 20:  # a dry run of the costs, not a batch
            return forward(network, x, samples)
        seen.update(network.state_dict())
        raise Seen

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Supernet, "forward", first_look)
        with pytest.raises(Seen):
            search_run(given, tmp_path / "run", data=few_digits, warm=warm)
    saved = Run(warm).load_checkpoint()[0]
    assert saved is not None
    assert any("running_mean" in name for name in seen)
    assert list(seen) == list(saved["network"])
    for name, tensor in saved["network"].items():
        assert torch.equal(tensor, seen[name]), name
    # killed before its first checkpoint: resumed it begins there again
    assert not list((tmp_path / "run").glob("checkpoints/*"))
    search_run({}, tmp_path / "run", data=few_digits, warm=warm, resume=True)
    search_run(given, tmp_path / "own", data=few_digits)
    assert (tmp_path / "run/logits.safetensors").read_bytes() == (
        tmp_path / "own/logits.safetensors"
    ).read_bytes()


def test_a_stopped_warm_up_goes_on(tmp_path: Path, warm: Path, tiny: Any, few_digits: Any) -> None:
    class StopAt(Silent):
        def update(self, done: int, numbers: str) -> None:
            if done == STEPS + 2:
                signal.raise_signal(signal.SIGINT)

    folder = tmp_path / "stopped"
    with pytest.raises(Stopped):
        search_run(settings(tiny), folder, data=few_digits, warm_up_only=True, progress=StopAt())
    assert len(lines(folder)) == 1
    search_run({}, folder, data=few_digits, warm_up_only=True, resume=True)
    left, right = (tensors(Run(f).load_checkpoint()[0]) for f in (folder, warm))
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_what_cannot_be_shared_is_refused(tmp_path: Path, warm: Path, tiny: Any, few_digits: Any) -> None:
    other = settings(tiny, weights={"momentum": 0.5})
    with pytest.raises(UserError, match=r"weights.momentum: the run has 0.9, you gave 0.5"):
        search_run(other, tmp_path / "run", data=few_digits, warm=warm)
    search_run({}, warm, data=few_digits, resume=True)  # past its warm-up
    with pytest.raises(UserError, match="at epoch 3, step 0, and its warm-up ends after epoch 2"):
        search_run(settings(tiny), tmp_path / "run", data=few_digits, warm=warm)
    with pytest.raises(UserError, match="holds no run"):
        search_run(settings(tiny), tmp_path / "run", data=few_digits, warm=tmp_path / "nothing")
    assert not (tmp_path / "run").exists()
