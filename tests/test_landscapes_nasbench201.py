"""The packaged table of NAS-Bench-201: published numbers, look-ups, forms, and the landscape made of it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from archgrad.architecture import NASBENCH201_CANDIDATES, Architecture
from archgrad.choice import supernet
from archgrad.errors import UserError
from archgrad.landscapes.landscape import architecture_at, index_in
from archgrad.landscapes.nasbench201 import (
    ARCHITECTURES,
    PATH,
    NASBench201,
    canonical_form,
    landscape,
    lower_is_better,
)
from archgrad.spaces import SPACES

TABLE = NASBench201.open()


def cell(*ops: str) -> str:
    a, b, c, d, e, f = ops
    return f"|{a}~0|+|{b}~0|{c}~1|+|{d}~0|{e}~1|{f}~2|"


SKIP = cell(*["skip_connect"] * 6)
CONV = cell(*["nor_conv_3x3"] * 6)


def test_published_numbers() -> None:
    """Best accuracies, the all-skip cell and the all-convolution cell, as the literature prints them."""
    assert TABLE.best("cifar10_test_200ep") == pytest.approx(94.3733, abs=5e-5)
    assert TABLE.best("cifar100_test_200ep") == pytest.approx(73.5133, abs=5e-5)
    assert TABLE.best("imagenet16_120_test_200ep") == pytest.approx(47.3111, abs=5e-5)
    skip = [TABLE.value(f"{d}_test_200ep", SKIP) for d in ("cifar10", "cifar100", "imagenet16_120")]
    assert skip == pytest.approx([54.2967, 15.6067, 16.3222], abs=5e-5)
    assert TABLE.index_of(SKIP) == 1835
    assert (TABLE.value("params_cifar10", CONV), TABLE.value("flops_cifar10", CONV)) == (
        1_531_546,
        220_119_690,
    )
    assert TABLE.value("params_cifar10", SKIP) == 73_306


def test_the_first_two_rows() -> None:
    """Index 0 and 1, float32-exact against the sources' float64."""
    first = cell(
        "avg_pool_3x3", "nor_conv_1x1", "skip_connect", "nor_conv_1x1", "skip_connect", "skip_connect"
    )
    assert TABLE.index_of(first) == 0
    assert TABLE.architecture(0).to_nasbench201() == first
    assert TABLE.value("cifar10_test_200ep", 0) == float(np.float32(85.86333333333334))
    assert TABLE.value("cifar10_valid_12ep", 1) == float(np.float32(82.83399999389648))
    assert TABLE.value("cifar100_test_200ep_1run", 1) == float(np.float32(70.1600000366211))
    assert TABLE.value("latency_ms_raspi4", first) == float(np.float32(10.481976509094238))


def test_every_column_is_whole() -> None:
    assert len(TABLE.columns) == 12 + 6 + 27
    assert sum(name.startswith("latency_ms_") for name in TABLE.columns) == 27
    for name in TABLE.columns:
        values = TABLE.column(name)
        assert values.shape == (ARCHITECTURES,)
        assert np.isfinite(values).all()
        assert not values.flags.writeable
        assert values.dtype == (np.int32 if name.startswith(("params", "flops")) else np.float32)


def test_index_string_and_architecture_agree() -> None:
    strings = set()
    for index in range(ARCHITECTURES):
        architecture = TABLE.architecture(index)
        text = architecture.to_nasbench201()
        strings.add(text)
        if index % 250 == 0:
            assert TABLE.index_of(architecture) == TABLE.index_of(text) == TABLE.index_of(index) == index
    assert len(strings) == ARCHITECTURES


def test_rank_percentile_and_regret() -> None:
    for column in ("cifar10_test_200ep", "latency_ms_fpga", "params_cifar10"):
        values = TABLE.column(column)
        ordered = np.sort(values) if lower_is_better(column) else np.sort(values)[::-1]
        for index in (0, 1835, 15_000, int(np.argmax(values)), int(np.argmin(values))):
            rank = 1 + ordered.tolist().index(values[index])  # the first of its equals
            assert TABLE.rank(column, index) == rank
            assert TABLE.percentile(column, index) == pytest.approx(
                100 * (ARCHITECTURES - rank + 1) / ARCHITECTURES
            )
            assert TABLE.regret(column, index) == pytest.approx(abs(float(ordered[0]) - float(values[index])))
    assert TABLE.rank("params_cifar10", SKIP) == 1  # least parameters, shared with many
    best = int(np.argmax(TABLE.column("cifar10_test_200ep")))
    assert (TABLE.rank("cifar10_test_200ep", best), TABLE.regret("cifar10_test_200ep", best)) == (1, 0.0)
    assert TABLE.percentile("cifar10_test_200ep", best) == 100.0


def test_forms_under_isomorphism() -> None:
    """6,466 forms (Dong & Yang 2020, section 2.1), the same partition as the published class numbers."""
    forms: dict[str, list[int]] = {}
    for index in range(ARCHITECTURES):
        forms.setdefault(TABLE.canonical(index), []).append(index)
    assert len(forms) == 6_466
    for members in forms.values():
        assert TABLE.equivalents(members[0]) == tuple(members)


def test_examples_of_forms() -> None:
    dead = cell("nor_conv_3x3", "none", "none", "skip_connect", "none", "none")
    assert canonical_form(Architecture.from_nasbench201(dead)) == "#+#+0"
    only = cell("none", "skip_connect", "nor_conv_3x3", "none", "avg_pool_3x3", "nor_conv_1x1")
    assert TABLE.canonical(only) == "#+#+(#+0)@nor_conv_1x1"
    swapped = cell("skip_connect", "nor_conv_3x3", "none", "none", "nor_conv_1x1", "none")
    other = cell("skip_connect", "nor_conv_3x3", "none", "nor_conv_1x1", "none", "none")
    assert TABLE.canonical(swapped) == TABLE.canonical(other)
    assert TABLE.index_of(other) in TABLE.equivalents(swapped)
    assert TABLE.canonical(SKIP) == "0+0+0+0"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (ARCHITECTURES, "cells 0 to 15624, got 15625"),
        (-1, "got -1"),
        (1.5, "wanted a cell as"),
        (SKIP.replace("skip_connect", "skip_conect", 1), "unknown operation 'skip_conect'"),
        ("|none~0|", "has 1: write"),
        ("|none~1|", "should read"),
        (Architecture({"cell/1<-0": "none"}), "six edges"),
        (Architecture({"a": "none"}), "describes one cell"),
        (Architecture.from_nasbench201(SKIP.replace("skip_connect", "none")).to_json(), "unknown operation"),
    ],
)
def test_no_cell(asked: object, said: str) -> None:
    with pytest.raises(UserError, match=said):
        TABLE.index_of(asked)  # type: ignore[arg-type]


def test_no_column() -> None:
    with pytest.raises(UserError, match=r"no column 'cifar10_test_20ep' - did you mean 'cifar10_test_200ep'"):
        TABLE.column("cifar10_test_20ep")
    with pytest.raises(UserError, match="no column 'code'"):
        TABLE.column("code")


def test_the_landscape_is_the_table() -> None:
    searched = landscape()
    for built, column in ((searched, "cifar10_valid_12ep"), (searched.truth, "cifar10_test_200ep")):
        for index in (0, 1, 1835, 9_999):
            at = torch.tensor(index_in(built, TABLE.architecture(index)))
            assert float(built.values(at)) == pytest.approx(1 - TABLE.value(column, index) / 100, abs=1e-12)
        best = architecture_at(built, built.optimum)
        assert TABLE.rank(column, best) == 1
        assert built.best == pytest.approx(1 - TABLE.best(column) / 100, abs=1e-12)
    assert searched.truth.truth is searched.truth
    with pytest.raises(UserError, match="made of accuracies; 'params_cifar10' is a cost"):
        landscape(column="params_cifar10")
    with pytest.raises(UserError, match="no column"):
        landscape(truth="x")


def test_the_landscape_has_the_choices_of_the_space() -> None:
    network = supernet(SPACES["nasbench201"].builder, (3, 8, 8), 10, channels=2, cells=1)
    assert network.groups == landscape().groups
    assert network.groups[0].candidates == NASBENCH201_CANDIDATES


def test_opening_and_a_look_up_are_fast_and_need_no_torch() -> None:
    """Measured 12 ms together, NumPy's own import aside; the bound is generous for a busy machine."""
    code = (
        "import sys, time, numpy, zipfile\n"
        "started = time.perf_counter()\n"
        "from archgrad.landscapes.nasbench201 import NASBench201\n"
        f"NASBench201.open().value('cifar10_test_200ep', '{SKIP}')\n"
        "print(time.perf_counter() - started, 'torch' in sys.modules)"
    )
    times = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, torch_is_there = done.stdout.split()
        assert torch_is_there == "False"
        times.append(float(seconds))
    assert min(times) < 0.1


def test_size_and_notices() -> None:
    assert PATH.stat().st_size < 4_000_000
    text = PATH.with_suffix(".md").read_text(encoding="utf-8")
    assert all(word in text for word in ("MIT", "Apache-2.0", "2001.00326", "NASLib", "HELP"))
