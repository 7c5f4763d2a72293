"""Drawings of cells: every edge of every published cell once, nothing on top of another, readable alone."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from archgrad.architecture import Architecture
from archgrad.cli import main
from archgrad.errors import UserError
from archgrad.genotypes import published
from archgrad.report.cell_picture import picture
from archgrad.verbs.draw import draw_genotype

SVG = "{http://www.w3.org/2000/svg}"
ROOT = Path(__file__).resolve().parents[1]


def boxes(cell: ElementTree.Element) -> list[tuple[float, ...]]:
    return [
        tuple(float(rect.get(key, 0)) for key in ("x", "y", "width", "height"))
        for rect in cell.iter(f"{SVG}rect")
        if rect.get("class") == "label"
    ]


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


@pytest.mark.parametrize("name", published())
def test_every_edge_is_drawn_once_and_labels_stay_apart(name: str, tmp_path: Path) -> None:
    genotype = published()[name].genotype
    root = ElementTree.parse(draw_genotype(name, tmp_path / "cell.svg")).getroot()
    cells = root.findall(f"{SVG}svg")
    assert len(cells) == len(genotype.cells)
    for cell, (kind, nodes) in zip(cells, genotype.cells.items(), strict=True):
        alive = [operation for node in nodes for operation, _ in node if operation != "none"]
        paths = cell.findall(f"{SVG}path")
        assert sum(path.get("class") == "edge" for path in paths) == len(alive)
        assert len(paths) == len(alive) + len(genotype.concat[kind])
        found = boxes(cell)
        assert len(found) == len(alive)
        assert not [pair for pair in itertools.combinations(found, 2) if overlap(*pair)]
        text = [t.text for t in cell.iter(f"{SVG}text") if t.text in alive]
        assert sorted(map(str, text)) == sorted(alive)
        width, height = (float(cell.get(key, 0)) for key in ("width", "height"))
        assert all(x >= 0 and y >= 0 and x + w <= width and y + h <= height for x, y, w, h in found)
    texts = {t.text for t in root.iter(f"{SVG}text")}
    assert ({"mean"} if genotype.space == "darts_rnn" else {"concatenation"}) <= texts


def test_a_picture_stands_alone() -> None:
    text = picture(published()["DARTS_V2"].genotype.architecture().cells(), title="a < b")
    assert "var(" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    root = ElementTree.fromstring(text)
    assert root.find(f"{SVG}rect").get("fill") == "#ffffff"  # type: ignore[union-attr]
    assert "a < b" in {t.text for t in root.iter(f"{SVG}text")}


def test_nasbench201_and_choices_that_are_no_edges(tmp_path: Path) -> None:
    path = draw_genotype("|nor_conv_3x3~0|+|none~0|skip_connect~1|", tmp_path / "new" / "cell.svg")
    assert path.read_text().count('class="edge"') == 2
    assert "output" in path.read_text()
    both = picture(Architecture({"cell/1<-0": "none"}).cells(), others={"depth": "three"})
    assert {"depth", "three"} <= {t.text for t in ElementTree.fromstring(both).iter(f"{SVG}text")}


def test_the_verb(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        main, ["draw", "--genotype", "GDAS_V1", "--out", str(tmp_path / "g.svg"), "--json"]
    )
    assert json.loads(done.stdout) == {"drawing": str(tmp_path / "g.svg")}
    for wrong in (["--out", "x.svg"], ["runs/x", "--genotype", "GDAS_V1", "--out", "x.svg"]):
        assert CliRunner().invoke(main, ["draw", *wrong]).exit_code == 2
    with pytest.raises(UserError, match=r"cell\.svg"):
        draw_genotype("GDAS_V1", tmp_path / "cell.png")


def test_the_drawings_in_the_documents_are_those_of_today(tmp_path: Path) -> None:
    for name in published():
        kept = ROOT / "docs" / "images" / "cells" / f"{name}.svg"
        assert kept.read_text("utf-8") == draw_genotype(name, tmp_path / "cell.svg").read_text("utf-8"), (
            "run: python benchmarks/genotype_counts.py --draw"
        )
