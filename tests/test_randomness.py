"""Streams: one root seed, named, stateless; and modules initialised without moving the global state."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from archgrad.randomness import Streams, seeded_modules


def test_a_stream_is_a_function_of_seed_name_and_indices() -> None:
    wanted = torch.rand(8, generator=Streams(7).generator("sampler", 3, 5))
    streams = Streams(7)
    streams.generator("data").get_state()
    torch.rand(5, generator=streams.generator("sampler", 3, 4))
    assert torch.equal(torch.rand(8, generator=streams.generator("sampler", 3, 5)), wanted)


@given(st.tuples(st.integers(0, 9), st.sampled_from("abc"), st.lists(st.integers(0, 12), max_size=3)))
def test_other_arguments_give_other_streams(key: tuple[int, str, list[int]]) -> None:
    seed, name, indices = key
    mine = Streams(seed).seed_of(name, *indices)
    assert mine != Streams(seed + 1).seed_of(name, *indices)
    assert mine != Streams(seed).seed_of(name + "x", *indices)
    assert mine != Streams(seed).seed_of(name, *indices, 0)
    assert 0 <= mine < 2**63


def test_indices_do_not_run_together() -> None:
    assert Streams(0).seed_of("data", 1, 23) != Streams(0).seed_of("data", 12, 3)


def test_the_same_in_another_process() -> None:
    """Not Python's salted hash: a run resumed tomorrow draws the same."""
    code = "from archgrad.randomness import Streams; print(Streams(7).seed_of('sampler', 1, 2))"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(other.stdout) == Streams(7).seed_of("sampler", 1, 2)


def test_making_and_using_a_stream_leaves_the_global_state() -> None:
    before = torch.get_rng_state()
    torch.rand(3, generator=Streams(1).generator("weights"))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_modules_are_repeatable_and_put_the_state_back() -> None:
    before = torch.get_rng_state()
    with seeded_modules(3):
        first = nn.Linear(4, 4)
    torch.testing.assert_close(torch.get_rng_state(), before, rtol=0, atol=0)
    with seeded_modules(3):
        again = nn.Linear(4, 4)
    with seeded_modules(4):
        other = nn.Linear(4, 4)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


def test_seeded_modules_put_the_state_back_after_an_error() -> None:
    before = torch.get_rng_state()

    def draw_and_fail() -> None:
        with seeded_modules(3):
            torch.rand(2)
            raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        draw_and_fail()
    assert torch.equal(torch.get_rng_state(), before)
