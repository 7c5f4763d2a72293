"""The page of an experiment: well-formed, without a script, and as the numbers are."""

import html.parser
import re
from xml.etree import ElementTree

import pytest

from archgrad.experiment.document import document_of
from archgrad.experiment.figures import ON_PAPER, curves_svg, rank_svg, seeds_svg, span
from archgrad.experiment.measures import RunRow
from archgrad.experiment.page import page_content, rank_picture, write_page
from archgrad.experiment.plan import CONTROL, Arm, Plan
from archgrad.experiment.points import curves_of
from archgrad.experiment.sentences import text, verdict
from archgrad.experiment.statistics import ranks
from archgrad.verbs.experiment import comparison_line

STRANGE = "<b>odd & long</b> · exponential:10:0.1"


def make(arms, seeds=8, pending=(), failed=(), control=True):
    """A document; arms: name -> mean accuracy, with a spread of a point over the seeds."""
    names = [*arms, *([CONTROL] if control else [])]
    accuracy = {**arms, CONTROL: 0.8}
    rows = {}
    for name in names:
        rows[name] = [
            RunRow(
                name, s, "done", epochs=10, seconds=3.0, converged=4 + s, seconds_to_convergence=1.0,
                entropy=0.3, stability=0.9, shared_accuracy=accuracy[name] + 0.001 * ((s * 3) % 8),
                architecture="abc",
            )
            for s in range(seeds)
        ]  # fmt: skip
        rows[name] = [r._replace(status="pending") if (name, r.seed) in pending else r for r in rows[name]]
        rows[name] = [
            r._replace(status="failed", message="it broke <here>") if (name, r.seed) in failed else r
            for r in rows[name]
        ]
    curve = curves_of([1, 2, 3], [[0.9], [0.5], [0.3]], [[None], [0.5], [1.0]], [[0.1], [0.2], [0.3]])
    plan = Plan(methods=list(arms), seeds=seeds, control=control)
    about = {"data": "digits", "space": "nasbench201", "images": 10, "shape": [1, 8, 8], "classes": 10}
    return document_of(
        plan,
        [Arm(n, n, None, {"method": n, "search": {"epochs": 10}}) for n in names],
        rows,
        dict.fromkeys(names, curve),
        about=about,
    )


class _Tags(html.parser.HTMLParser):
    """Whether every element is closed, and which there are."""

    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)


def page_of(document, tmp_path):
    write_page(document, tmp_path / "page.html")
    content = (tmp_path / "page.html").read_text()
    tags = _Tags()
    tags.feed(content)
    assert tags.open == []
    assert "script" not in tags.seen
    assert not re.search(r"\bNone\b|\bnan\b|\binf\b|https?://(?!www\.w3\.org/2000/svg)", content)
    return content


def test_the_page_of_a_finished_experiment(tmp_path):
    document = make({"darts": 0.85, STRANGE: 0.9, "gdas": 0.7})
    content = page_of(document, tmp_path)
    assert "<b>odd" not in content
    assert "&lt;b&gt;odd &amp; long" in content
    for part in ("arms", "ranks", "pairs", "curves", "words", "runs", "settings"):
        assert f'<section id="{part}">' in content
    found = page_content(document)
    assert [row["arm"]["name"] for row in found["rows"]] == [STRANGE, "darts", CONTROL, "gdas"]
    best = found["matrix"][0][1]
    assert best[0] is None
    assert [cell["verdict"] for cell in best[1:]] == ["better"] * 3
    assert best[3]["value"] == pytest.approx(0.2)
    assert [row[1][0]["verdict"] for row in found["matrix"][1:]] == ["worse"] * 3
    assert len(found["curves"]) == 3
    for _, _, picture in found["curves"]:
        ElementTree.fromstring(picture)
    for row in found["rows"]:
        ElementTree.fromstring(row["seeds"])


def test_what_is_said():
    document = make({"darts": 0.85, "gdas": 0.9, "twin": 0.9, "bad": 0.7}, seeds=10)
    said = verdict(document)
    assert said.startswith("The best mean score is that of gdas, 90.31%; it cannot be told from twin")
    assert "better than it: darts, gdas, twin; worse: bad." in said
    assert "it is better than every other" in verdict(make({"darts": 0.85, "gdas": 0.9}))
    assert "no method here found more than random search does" in verdict(make({"darts": 0.7}))
    assert "no method is better beyond doubt" in verdict(make({"darts": 0.9}, seeds=3))
    assert verdict(make({"darts": 0.9}, control=False)) == "darts: mean score 90.35%."
    printed = text(document)
    assert re.search(
        r"gdas +10 +90\.31% +90\.\d\d% – 90\.\d\d% +90\.30% +100% +10/10 +8 +90\.0% +30% +3\.0 s", printed
    )
    assert "critical difference" in printed


def test_unfinished_and_failed_runs(tmp_path):
    document = make(
        {"darts": 0.9, "gdas": 0.8}, seeds=2, pending={("darts", 0), ("darts", 1)}, failed={("gdas", 1)}
    )
    content = page_of(document, tmp_path)
    assert "it broke &lt;here&gt;" in content
    assert "failed: gdas, seed 1: it broke <here>" in text(document)
    assert "2 to do" in content
    assert document["arms"][0]["shared_accuracy"] is None
    assert document["ranks"] is None
    assert rank_picture(document) is None
    nothing = make({"darts": 0.9}, seeds=1, pending={("darts", 0)}, control=False)
    page_of(nothing, tmp_path)
    assert verdict(nothing) == "No run has ended yet."
    assert nothing["comparisons"] == []


def test_the_control_is_no_success_and_a_method_is_where_it_has_more():
    document = make({"darts": 0.9, "gdas": 0.7}, failed={(CONTROL, 3)})
    rows = {(r["arm"], r["seed"]): r["success"] for r in document["runs"]}
    assert [rows["darts", s] for s in range(8)] == [True, True, True, None, True, True, True, True]
    assert rows["gdas", 0] is False
    assert rows[CONTROL, 0] is None
    assert document["arms"][0]["success"] == pytest.approx(
        {"n": 7, "share": 1.0, "low": 0.6457, "high": 1.0}, abs=1e-3
    )  # Wilson's interval of 7 of 7
    alone = make({"darts": 0.9}, control=False)
    assert alone["arms"][0]["success"] is None


def test_rank_plot():
    found = ranks({"a": [3, 3, 3, 3], "b": [2, 2, 2, 2], STRANGE: [1, 1, 1, 1]})._asdict()
    picture = rank_svg(found, "b")
    root = ElementTree.fromstring(picture)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "critical difference 1.66" in texts
    assert {"a  1.00", "b  2.00"} <= set(texts)
    assert any(t.startswith("3.00  <b>odd") for t in texts)
    bars = [e for e in root.iter("{http://www.w3.org/2000/svg}path") if e.get("stroke-width") == "4"]
    assert len(bars) == len(found["groups"]) == 2
    assert "var(--" not in picture  # a file of its own knows no style sheet


def test_axes_hold_all_values():
    for values in ([0.5], [0.0, 0.0], [0.901, 0.943], [1e-5, 2e-5], [-3.0, 1e4]):
        axis = span(values)
        assert all(0 < axis.share(v) < 1 for v in values)
        assert all(-1e-6 <= axis.share(t) <= 1 + 1e-6 for t in axis.ticks)
    assert "rect" not in seeds_svg([0.5], None, span([0.5]), "red")
    short = curves_of([1], [[0.4]], None, None)
    assert "circle" in curves_svg({"a": short}, "entropy", {"a": ("red", "pink", "none")}, ".0%", "epoch")
    assert curves_svg({"a": short}, "accuracy", {"a": ("red", "pink", "none")}, ".0%", "epoch") is None
    tones = dict.fromkeys("abcd", ("red", "pink", "none"))
    alone = curves_svg(dict.fromkeys("abcd", short), "entropy", tones, ".0%", "epoch", ON_PAPER)
    assert [f">{name}</text>" in alone for name in "abcd"] == [True] * 4  # a file has its own legend
    assert "var(--" not in alone


def test_a_comparison_as_a_line_has_every_field_however_little_is_known():
    full, empty = make({"darts": 0.9}), make({"darts": 0.9})
    empty["comparisons"][0]["stability"] = empty["comparisons"][0]["speed"] = None
    first, second = (comparison_line(d["comparisons"][0]) for d in (full, empty))
    assert list(first) == list(second)
    assert second["speed_value"] is None
    assert first["score_difference"] == pytest.approx(0.1)
