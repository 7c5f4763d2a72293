"""docs/tutorial_2ms.md: its commands run as they are typed, and show what the page says that they show.

Added to the commands are only fewer epochs and networks, so that it takes minutes.
"""

from __future__ import annotations

import json
import re
import shlex
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner

from archgrad.cli import main
from archgrad.config_layers import read
from archgrad.config_problems import check

PAGE = Path(__file__).resolve().parents[1] / "docs" / "tutorial_2ms.md"
FEW = {
    "latency": ["--validate", "8", "--clock", "processor"],
    "search": ["search.epochs=2"],
    "train": ["train.epochs=1"],
}
NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?(e[-+]\d+)?")

VARYING = {
    "above|below": "(above|below)",
    "faster|slower": "(faster|slower)",
    "met$": "(not )?met",
    "'sum'": "'(sum|scaled)'",
    r"%\\ +<\\-\\ the\\ table": "%( +<- the table)?",  # as `re.escape` writes it
}
"""What depends on the numbers -> what may stand there."""


def blocks() -> list[tuple[str, str]]:
    """(language, text) of the fenced blocks, in order."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(r"^```(\w+)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    return [
        shlex.split(line) for language, text in blocks() if language == "sh" for line in text.splitlines()
    ]


def pattern(line: str) -> re.Pattern[str]:
    """A line of output whatever its numbers, its columns' widths, and the words that depend on numbers."""
    text = re.escape(" ".join(NUMBER.sub("0", line).split()))
    for words, any_of_them in VARYING.items():
        text = re.sub(words, lambda _, new=any_of_them: new, text)  # type: ignore[misc]
    return re.compile(text.replace("0", NUMBER.pattern).replace("\\ ", r"\s+"))


def run(words: list[str]) -> str:
    assert words[0] == "archgrad"
    few = [] if "--derived" in words else FEW.get(words[1], [])
    done = CliRunner().invoke(main, [*words[1:], *few])
    assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}{done.exception!r}"
    return done.output


def test_the_page_is_read_whole(tmp_path: Path) -> None:
    assert [words[1] for words in commands()] == ["latency", "search", "derive", "train", "export", "latency"]
    for words in commands():
        main.commands[words[1]].make_context(words[1], words[2:])  # raises on a wrong option
    languages = [language for language, _ in blocks()]
    assert languages.count("python") == languages.count("yaml") == 1
    assert languages.count("text") == 5
    settings = next(text for language, text in blocks() if language == "yaml")
    (tmp_path / "photos.yaml").write_text(settings, encoding="utf-8")
    check(read(tmp_path / "photos.yaml"))
    assert "Six commands" in PAGE.read_text(encoding="utf-8")


def test_lines_are_compared_but_for_their_numbers() -> None:
    shown = pattern("budget latency ≤ 2 ms: 25.0% below its limit, met")
    assert shown.search("budget  latency ≤ 1.9 ms: 3.1% above its limit, met")
    assert not shown.search("budget macs ≤ 2 M: 25.0% below its limit, met")
    assert pattern("sum      0.829  6.7%  18%  <- the table").search("sum    -0.1   16.7%  8%")
    assert pattern("0.7 to 4.7 ms by the model 'sum'").search("1.7 to 41.7 ms by the model 'scaled'")
    assert pattern("largest 4.02e-07 of 132,826").search("largest 1.1e-06 of 7")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_page_works_as_typed(tmp_path: Path) -> None:
    said, compared = "", 0
    with chdir(tmp_path):
        for language, text in blocks():
            if language == "python":
                exec(compile(text, PAGE.name, "exec"), {"__name__": "tutorial"})
                assert len(list(Path("photos").rglob("*.png"))) == 1_797
            elif language == "yaml":
                Path(text.split()[1]).write_text(text, encoding="utf-8")
            elif language == "sh":
                said = "\n".join(run(shlex.split(line)) for line in text.splitlines())
            else:
                for line in text.splitlines():
                    assert pattern(line).search(said), f"not said: {line}\n{said}"
                    compared += 1
        assert compared >= 12
        derivation = json.loads(Path("runs/fast/derivation.json").read_text())
        (budget,) = derivation["budgets"]
        assert budget["met"]
        assert budget["value"] <= 2.0
        latency = json.loads(Path("runs/fast/latency.json").read_text())
        (one,) = latency["comparisons"]
        assert latency["file"] == "export/model.onnx"
        assert one["predicted_ms"] == pytest.approx(budget["value"])
        assert 0.5 < latency["measured_ms"] / one["predicted_ms"] < 1.5
