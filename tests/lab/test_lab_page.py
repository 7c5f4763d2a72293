import builtins
import dataclasses
import importlib.util
import itertools
import json
import re
import shlex
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from archgrad.config_layers import overrides
from archgrad.errors import MissingExtra
from archgrad.lab import figures
from archgrad.lab.contenders import names as parse_names
from archgrad.lab.findings import Difference
from archgrad.lab.page import write_page
from archgrad.lab.reproduce import command
from archgrad.lab.studies import LabSettings

ATTACK = '</script><script>window.attacked=1</script><img src=x onerror="window.attacked=1">'
ALL = {"estimators", "searches", "schedules"}


@pytest.fixture
def page(tmp_path, document):
    """``page(document) -> HTML`` of the page, less plotly itself."""

    def write(content):
        from plotly.offline import get_plotlyjs

        target = tmp_path / "lab.html"
        write_page(content, target)
        html = target.read_text()
        assert html.count(get_plotlyjs()) == 1
        return html.replace(get_plotlyjs(), "")

    return write


def _figures(html):
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)
    return json.loads(found[1])["figures"]


def _sections(html):
    return set(re.findall(r'<section id="([a-z-]+)"', html)) & ALL


@pytest.mark.parametrize(
    ("studies", "keys"),
    [
        ("searches", {"searches-regret", "searches-found", "searches-entropy", "searches-margin",
                      "searches-stability", "matrix"}),
        ("estimators", {"estimators-0", "estimators-1", "estimators-2", "cosine"}),
        ("schedules", {"schedules-0", "schedules-1", "temperature", "schedules-regret", "schedules-found",
                       "schedules-entropy"}),
    ],
)  # fmt: skip
def test_a_page_of_each_study_and_valid_figures(page, document, studies, keys):
    import plotly.graph_objects as go

    html = page(document(studies=studies))
    assert _sections(html) == {studies}
    drawn = _figures(html)
    assert set(drawn) == keys
    assert set(re.findall(r'data-figure="([a-z0-9-]+)"', html)) == keys
    for figure in drawn.values():
        go.Figure(figure)  # raises on a property or value that plotly does not know
        assert sum(len(trace["x"]) for trace in figure["data"]) > 0


def test_a_page_of_all_studies_has_every_part(page, document):
    content = document()
    content["left_out"] = ["two_path · unrolled: <needs> more"]
    html = page(content)
    assert _sections(html) == ALL
    assert "two_path · unrolled: &lt;needs&gt; more" in html
    for fact in ("729", "6 with 3 candidates each", "a processor", "2026-03-14", "0.1.0"):
        assert fact in html
    assert "archgrad lab --samplers softmax,reinmax,gumbel_rao,score_gate" in html


@pytest.mark.parametrize("studies", ["searches", "schedules", "estimators", "estimators searches schedules"])
@pytest.mark.parametrize("seeds", [1, 8])
def test_one_contender_and_numbers_that_are_not_finite(page, document, studies, seeds):
    content = document(["only"], studies, seeds=seeds, steps=1)
    nan = float("nan")
    for name in ("searches", "schedules"):
        for outcome in content.get(name, {"outcomes": []})["outcomes"]:
            outcome.update(regret_error=nan if seeds == 1 else None, skips=None, steps_to_optimum=None)
        for curves in content.get(name, {"curves": {}})["curves"].values():
            curves["regret"]["high"] = [nan] * len(curves["steps"])
    for row in content.get("estimators", []):
        row.update(bias_error=nan, cosine=None, tau=None)
    html = page(content)
    data = re.search(r'id="figures">(.*?)</script>', html, re.S)[1]
    assert not re.search(r"\bNaN\b|\bInfinity\b", data)
    visible = re.sub(r"<(style|script).*?</\1>", "", html, flags=re.S)
    assert not re.search(r"\b(nan|None|inf)\b", visible)


@pytest.mark.parametrize(
    "key", ["regret", "optimum", "top", "reached", "entropy", "margin", "stability", "seconds"]
)
def test_any_number_of_an_outcome_may_be_unknown(page, document, key):
    content = document(studies="searches schedules")
    for name in ("searches", "schedules"):
        for outcome in content[name]["outcomes"]:
            outcome[key] = None
    assert "–" in page(content)


@pytest.mark.parametrize("key", ["bias", "variance", "mse", "cosine", "mean_cosine"])
def test_any_number_of_an_estimator_may_be_unknown(page, document, key):
    content = document(studies="estimators")
    for row in content["estimators"]:
        row[key] = None
    assert "–" in page(content)


def test_no_estimators_at_all_is_said(page, document):
    content = document(studies="estimators")
    content["estimators"] = []
    assert "there is no gradient to compare" in page(content)


def test_names_are_text(page, document):
    content = document([ATTACK, f"b{ATTACK}", f"c{ATTACK}"])
    content["landscape"]["name"] = content["environment"]["processor"] = ATTACK
    content["left_out"] = [ATTACK]
    html = page(content)
    assert "window.attacked" in html  # it is shown
    assert "<script>window" not in html
    assert "<img" not in html
    assert "<img" not in json.dumps(_figures(html))  # plotly reads tags


def test_no_reference_leaves_the_file_and_only_the_own_scripts_run(page, document):
    html = page(document())
    assert not re.search(r"""(?:src|srcset|action|poster|data)\s*=\s*["']?(?!data:)[\w/.]*//""", html)
    assert not re.search(
        r"https?:|@import|url\(|<link(?! rel=\"icon\" href=\"data:,\")|<iframe|<object", html
    )
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1])
    assert re.fullmatch(r"('sha256-[\w+/]{43}=' ?){2}", re.search(r"script-src ([^;]*)", policy)[1])
    assert "default-src 'none'" in policy


def test_35_contenders_of_100_steps_are_a_small_page_with_six_in_colour(page, document, tmp_path):
    names = [f"sampler_{i} · score_function(baseline=leave_one_out,samples={i})" for i in range(35)]
    html = page(document(names, "estimators searches", steps=101))
    assert (tmp_path / "lab.html").stat().st_size < 6e6
    buttons = re.findall(r'data-curve="searches:(\d+)" aria-pressed="(\w+)"', html)
    assert [int(rank) for rank, pressed in buttons if pressed == "true"] == list(range(6))
    assert len(buttons) == 35
    lines = _figures(html)["searches-entropy"]["data"]
    assert len({(t["line"]["color"], t["line"]["dash"]) for t in lines}) == 35


def test_more_contenders_than_a_figure_holds_are_said_to_be_left_out(page, document):
    html = page(document([f"c{i}" for i in range(figures.MOST + 3)], "searches", steps=3))
    assert "3 more with larger regret are in the table only." in html
    assert f"The best {figures.MOST} are shown." in html
    assert len(_figures(html)["matrix"]["data"][0]["z"]) == figures.MOST
    assert html.count('<th scope="row">c') >= figures.MOST + 3


def test_regret_is_in_points_with_its_band_and_zero_at_the_foot(page, document):
    figure = _figures(page(document(studies="searches")))["searches-regret"]
    bands = [t for t in figure["data"] if "fill" in t]
    lines = [t for t in figure["data"] if "fill" not in t]
    assert len(bands) == len(lines) == 4
    for band, line in zip(bands, lines, strict=True):
        assert band["meta"] == line["meta"]
        assert band["fillcolor"] == line["line"]["color"].replace("curve", "curve-band")
    assert lines[0]["y"][0] == 50.0
    floor = figure["layout"]["yaxis"]["tickvals"][0]
    assert lines[0]["y"][-1] == floor > 0
    assert figure["layout"]["yaxis"]["ticktext"][0] == "0"
    upper, lower = bands[0]["y"][:6], bands[0]["y"][:5:-1]
    assert all(low <= at <= high for low, at, high in zip(lower, lines[0]["y"], upper, strict=True))
    assert (upper[0], lower[0], lower[-1]) == (50.4, 49.6, floor)
    assert set(figure["layout"]["meta"]["axes"]) == {"logarithmic", "linear"}


def test_the_matrix_is_turned_about_its_diagonal_and_marks_what_is_undecided(page, document):
    heat = _figures(page(document(studies="searches")))["matrix"]["data"][0]
    z = heat["z"]
    for i in range(4):
        assert z[i][i] is None
        for j in set(range(4)) - {i}:
            assert z[i][j] == -z[j][i]
            assert (heat["text"][i][j] == "≈") == (z[i][j] == 0) == (abs(i - j) == 1)
            if abs(i - j) > 1:
                assert (z[i][j] < 0) == (i < j)  # the better the more to the left, in colour "better"
                assert abs(z[i][j]) >= 0.24


def test_a_small_difference_that_is_decided_has_a_colour_of_its_own():
    def pair(value, verdict):
        return Difference(value, value, value, 0.5, verdict, verdict)

    pairs = {
        ("a", "b"): pair(-1e-6, "better"),
        ("a", "c"): pair(-0.5, "better"),
        ("b", "c"): pair(0.1, "undecided"),
    }
    pairs |= {(second, first): found.turned() for (first, second), found in pairs.items()}
    small, large = figures.matrix_figure(["a", "b", "c"], pairs)["data"][0]["z"][0][1:]
    assert -0.35 < small <= -0.24
    assert large == -1.0


@pytest.mark.parametrize("appearance", ["light", "dark"])
@pytest.mark.parametrize("vision", ["normal", "protanopia", "deuteranopia"])
def test_colours_of_the_ranks_can_be_told_apart(appearance, vision):
    path = Path(__file__).parents[1] / "report" / "test_report_drawing.py"
    spec = importlib.util.spec_from_file_location("colour_vision", path)
    seen = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(seen)
    for a, b in itertools.combinations(figures.CURVES, 2):
        difference = seen._lab(getattr(a, appearance), vision) - seen._lab(getattr(b, appearance), vision)
        assert np.linalg.norm(difference) > 12, (a, b)


def test_bias_and_variance_are_drawn_where_they_were_measured(page, document):
    drawn = _figures(page(document()))["estimators-1"]
    points = {t["name"]: t for t in drawn["data"] if t.get("meta")}
    floor = drawn["layout"]["xaxis"]["tickvals"][0]
    assert points["softmax"]["x"] == [floor]
    assert points["reinmax"]["x"] == [0.1]
    assert points["reinmax"]["y"] == [0.3]
    assert points["reinmax"]["error_y"]["array"] == [0.098]
    for line in (t for t in drawn["data"] if not t.get("meta")):
        errors = {round(v + b * b, 6) for v, b in zip(line["x"], line["y"], strict=True) if v > 2 * floor}
        if errors:
            assert max(errors) == pytest.approx(min(errors), rel=5e-3)


def test_a_contender_keeps_its_colour_from_searches_to_estimators(page, document):
    content = document(["a", "b", "c"], "estimators searches")
    content["searches"]["outcomes"][0]["regret"] = 1.0  # a is now the last
    drawn = _figures(page(content))
    curve = next(t for t in drawn["searches-entropy"]["data"] if t["name"] == "a")
    point = next(t for t in drawn["estimators-0"]["data"] if t.get("name") == "a")
    assert curve["line"]["color"] == point["marker"]["color"] == figures.colour(2)


def test_schedules_are_drawn_with_their_intervals(page, document):
    drawn = _figures(page(document()))["schedules-1"]
    assert [t["name"] for t in drawn["data"]] == ["least regret", "not to be told from it", "worse"]
    best, level, _ = drawn["data"]
    assert (best["x"], best["y"]) == ([3.0], [0])
    assert best["error_x"]["array"] == [0.392]  # 1.96 standard errors of 0.2 points
    assert level["y"] == [1]


def test_only_what_a_landscape_reads_is_among_the_settings(page, document):
    html = page(document(studies="searches"))
    assert "<code>sampler.name=reinmax</code>" in html
    assert "architecture.learning_rate" in html
    assert "train.epochs" not in html


def test_the_command_repeats_the_settings():
    settings = LabSettings(
        methods=("snas",), samplers=("reinmax", "gumbel_rao(samples=5)", "a:B"), schedules=("linear:10:0.1",),
        hypergradients=("score_function(baseline=leave_one_out,samples=2)",), landscape="deceptive",
        landscape_settings={"choices": 8}, noise={"name": "correlated", "kendall_tau": 0.5}, seeds=7, steps=9,
        draws=11, seed=2, studies=("schedules",), observe="active", step_noise=0.25,
        overrides={"architecture": {"learning_rate": 1e-3, "betas": [0.5, 0.9]}, "x": {"a": True, "b": None}},
    )  # fmt: skip
    words = shlex.split(command(dataclasses.asdict(settings)))
    assert words[:2] == ["archgrad", "lab"]
    options, pairs = {}, []
    rest = iter(words[2:])
    for word in rest:
        if word.startswith("--"):
            options[word[2:]] = next(rest)
        else:
            pairs.append(word)
    given = overrides(pairs)
    assert given.pop("landscape") == settings.landscape_settings
    assert given.pop("noise") == settings.noise
    assert given == settings.overrides
    lists = {"methods": "methods", "samplers": "samplers", "hypergradients": "hypergradients",
             "schedules": "schedules", "study": "studies"}  # fmt: skip
    for option, key in lists.items():
        assert tuple(parse_names(options.pop(option))) == getattr(settings, key)
    assert options == {"landscape": "deceptive", "seeds": "7", "steps": "9", "draws": "11", "seed": "2",
                       "observe": "active", "step-noise": "0.25"}  # fmt: skip
    assert command(dataclasses.asdict(LabSettings())) == "archgrad lab"


@pytest.mark.parametrize("library", ["plotly", "jinja2"])
def test_a_missing_library_is_named(document, tmp_path, monkeypatch, library):
    real = builtins.__import__

    def absent(name, *args, **kwargs):
        if name.split(".")[0] == library:
            raise ImportError(f"No module named {name!r}", name=library)
        return real(name, *args, **kwargs)

    for module in [m for m in sys.modules if m.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=rf"needs {library}: pip install 'archgrad\[report\]'"):
        write_page(document(), tmp_path / "lab.html")
    assert not (tmp_path / "lab.html").exists()
