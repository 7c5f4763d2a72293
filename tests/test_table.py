"""Tables: names, near misses, parts of one's own, and no work before it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from archgrad.errors import UserError
from archgrad.hypergradients import HYPERGRADIENTS
from archgrad.ops import OPS
from archgrad.samplers import SAMPLERS
from archgrad.samplers.softmax import Softmax
from archgrad.spaces import SPACES
from archgrad.table import Entry, Table, nearest

TABLES = {"ops": OPS, "samplers": SAMPLERS, "spaces": SPACES, "hypergradients": HYPERGRADIENTS}


@pytest.mark.parametrize("family", TABLES)
def test_every_entry_loads_and_is_described(family: str) -> None:
    for name, entry in TABLES[family].entries.items():
        assert TABLES[family][name] is not None
        assert entry.sentence
        assert "arXiv" in entry.source, name


def test_an_unknown_name_lists_the_known_and_the_nearest() -> None:
    with pytest.raises(UserError) as caught:
        SAMPLERS["softmx"]
    text = str(caught.value)
    assert "unknown sampler 'softmx' - did you mean 'softmax'?" in text
    assert all(name in text for name in SAMPLERS)
    assert "module:object" in text


def test_a_part_of_ones_own_needs_no_registration() -> None:
    assert SAMPLERS["archgrad.samplers.softmax:Softmax"] is Softmax
    SAMPLERS.check("nowhere:at_all")  # only its form is checked before it is loaded


@pytest.mark.parametrize("name", [":Softmax", "archgrad.samplers.softmax:", ":"])
def test_half_a_target_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="unknown sampler"):
        SAMPLERS[name]


def test_a_missing_module_and_a_missing_object() -> None:
    with pytest.raises(UserError, match="no module 'no_such_module_here'; is its folder on PYTHONPATH"):
        SAMPLERS["no_such_module_here:X"]
    with pytest.raises(UserError, match="has no 'Sotfmax' - did you mean 'Softmax'"):
        SAMPLERS["archgrad.samplers.softmax:Sotfmax"]


def test_a_missing_dependency_of_the_module_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the dependency's name begins the module's: `abcd` is not `abcd_sampler`."""
    (tmp_path / "abcd_sampler.py").write_text("import abcd\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="No module named 'abcd'"):
        SAMPLERS["abcd_sampler:X"]


def test_reading_a_table_imports_no_part() -> None:
    code = (
        "import sys\nfrom archgrad.samplers import SAMPLERS\n"
        "assert 'softmax' in SAMPLERS and len(SAMPLERS) and list(SAMPLERS) and SAMPLERS.entries\n"
        "SAMPLERS.check('softmax')\n"
        "print('torch' in sys.modules, 'archgrad.samplers.softmax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_table_is_a_copy_of_what_it_was_made_of() -> None:
    rows = {"a": Entry("math:pi", "a number")}
    table = Table("number", rows)
    rows["b"] = Entry("math:e", "another")
    assert list(table) == ["a"]
    assert table["a"] == pytest.approx(3.14159, abs=1e-5)


def test_nearest_is_silent_when_nothing_is_near() -> None:
    assert nearest("zzz", ["softmax"]) == ""
