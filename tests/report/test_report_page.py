import builtins
import json
import re
import sys
import time
from html import unescape

import pytest

from archgrad.errors import MissingExtra
from archgrad.report import page
from archgrad.report.page import write_report

MEGABYTE = 1e6
ATTACK = '</script><script>window.attacked=1</script><img src=x onerror="window.attacked=1">'


def _without_library(html):
    """The page less plotly itself, whose text holds many addresses that it never opens here."""
    from plotly.offline import get_plotlyjs

    assert html.count(get_plotlyjs()) == 1
    return html.replace(get_plotlyjs(), "")


def _figures(html):
    return json.loads(
        re.search(r'<script type="application/json" id="figures">(.*?)</script>', html, re.S)[1]
    )


def test_written_into_the_run_folder_or_where_asked(make_run, tmp_path):
    folder = make_run(epochs=3, derived=False)
    assert write_report(folder) == folder / "report.html"
    elsewhere = tmp_path / "page.html"
    assert write_report(folder, elsewhere) == elsewhere
    assert elsewhere.read_text() == (folder / "report.html").read_text()
    assert not list(folder.glob("*.tmp*"))


def test_small_and_quick_for_50_epochs_of_28_choices_with_8_candidates(make_run):
    folder = make_run()
    started = time.perf_counter()
    path = write_report(folder)
    assert time.perf_counter() - started < 3
    assert path.stat().st_size < 6 * MEGABYTE


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"space": "nasbench201", "lead": -0.01},
        {"epochs": 7, "derived": False},
        {"space": "own"},
        {"epochs": 1},
    ],
)
def test_no_reference_leaves_the_file(make_run, settings):
    html = _without_library(write_report(make_run(**settings)).read_text())
    assert not re.search(r"""(?:src|srcset|action|poster|data)\s*=\s*["']?(?!data:)[\w/.]*//""", html)
    assert not re.search(
        r"https?:|@import|url\(|<link(?! rel=\"icon\" href=\"data:,\")|<iframe|<object", html
    )
    assert set(re.findall(r'href="([^"]*)"', html)) <= {"data:,", *re.findall(r'href="(#[a-z]+)"', html)}


def test_only_the_two_own_scripts_may_run(make_run):
    html = write_report(make_run(epochs=2, derived=False)).read_text()
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1])
    sources = re.search(r"script-src ([^;]*)", policy)[1]
    assert re.fullmatch(r"('sha256-[\w+/]{43}=' ?){2}", sources)
    assert "default-src 'none'" in policy


def test_names_from_files_are_text(make_run):
    folder = make_run(epochs=3, planned=3, space="nasbench201")
    for name in ("config.yaml", "environment.json", "data.json", "choices.json", "metrics.jsonl"):
        path = folder / name
        text = path.read_text()
        bad = json.dumps(ATTACK)[1:-1] if name != "config.yaml" else ATTACK
        text = text.replace("cifar10", bad).replace("0.1.0", bad).replace("skip_connect", bad)
        path.write_text(text.replace("cell/1<-0", bad))
    result = json.loads((folder / "train/residual/result.json").read_text())
    (folder / "train/residual/result.json").write_text(json.dumps(result | {"name": ATTACK, "kind": ATTACK}))
    (folder / "train/residual").rename(folder / "train/<b>bold<")
    html = _without_library(write_report(folder).read_text())
    assert "window.attacked" in html  # it is shown
    assert "<script>window" not in html
    assert "<img" not in html
    # Plotly reads tags in the texts of its figures.
    content = _figures(html)
    drawn = [[*content[kind].values()] for kind in ("figures", "details", "trajectories")]
    assert "<img" not in json.dumps(drawn)


def test_figures_are_valid_for_plotly_and_hold_the_data(make_run):
    import plotly.graph_objects as go

    content = _figures(write_report(make_run()).read_text())
    assert set(content["figures"]) == {
        "loss", "accuracy", "entropy", "tau", "cost", "gradient", "probabilities-0", "probabilities-1",
        "diagnostic-margin", "diagnostic-settled", "diagnostic-operations", "entropy-by-choice",
        "margin-by-choice", "stability", "control-accuracy", "control-parameters",
        "training-loss", "training-accuracy",
    }  # fmt: skip
    assert len(content["details"]) == len(content["trajectories"]) == 28
    for figure in (f for kind in ("figures", "details", "trajectories") for f in content[kind].values()):
        go.Figure(figure)  # raises on a property or value that plotly does not know
        assert sum(len(trace["x"]) for trace in figure["data"]) > 0
    for index in (0, 1):
        heat = content["figures"][f"probabilities-{index}"]["data"][0]
        assert sum(row[0] is not None for row in heat["z"]) == 14 * 8
        assert all(len(row) == 50 for row in heat["z"])


@pytest.mark.parametrize("controls", [0, 1, 5])
def test_accuracies_fill_their_axis_even_a_single_one(make_run, controls):
    html = write_report(make_run(epochs=2, planned=2, controls=controls)).read_text()
    figure = _figures(html)["figures"]["control-accuracy"]
    low, high = figure["layout"]["xaxis"]["range"]
    values = [x for trace in figure["data"] for x in trace["x"]]
    assert low < min(values) <= max(values) < high
    assert 0.0099 <= high - low < 0.06
    spreads = [trace["error_x"]["array"] for trace in figure["data"] if "error_x" in trace]
    assert len(spreads) == (controls > 1)  # one control has no spread


def test_a_candidate_has_one_colour_everywhere(make_run):
    html = write_report(make_run(space="nasbench201")).read_text()
    content = _figures(html)
    chip = re.search(r'background:(var\(--candidate-\d\))"></i>nor_conv_3x3', html)[1]
    row = next(iter(content["details"].values()))
    marks = dict(zip(row["data"][1]["y"], row["data"][1]["marker"]["color"], strict=True))
    assert [c for label, c in marks.items() if "nor_conv_3x3" in label] == [chip]
    strips = content["figures"]["stability"]["data"][1]
    number = next(z for zs, texts in zip(strips["z"], strips["text"], strict=True)
                  for z, text in zip(zs, texts, strict=True) if text == "nor_conv_3x3")  # fmt: skip
    assert strips["colorscale"][2 * number][1] == chip
    for arc in re.findall(r'class="label"[^>]*?stroke:([^;]+);[^>]*/><text[^>]*>nor_conv_3x3', html):
        assert arc == chip
    assert f"stroke:{chip}" in html


def test_an_unfinished_run_says_so_and_what_to_type(make_run):
    folder = make_run(epochs=7, derived=False)
    html = write_report(folder).read_text()
    assert "Search running or interrupted: 7 of 50 epochs" in html
    assert f"<code>archgrad derive {folder}</code>" in html
    assert f"<code>archgrad train {folder}" in html
    assert html.count('<svg class="cell"') == 4  # the strongest candidates so far, and epoch by epoch


def test_a_run_without_any_epoch_has_a_page(make_run):
    html = write_report(make_run(epochs=0, derived=False)).read_text()
    assert "No epoch has been recorded yet" in html
    content = _figures(html)
    assert content["figures"] == content["details"] == content["trajectories"] == {}
    assert content["frames"]["epochs"] == []


def test_warnings_of_reading_are_on_the_page(make_run):
    folder = make_run(epochs=3, derived=False)
    (folder / "metrics.jsonl").write_bytes((folder / "metrics.jsonl").read_bytes()[:-9])
    assert "Line 3 of metrics.jsonl is incomplete or damaged" in write_report(folder).read_text()


def test_a_strange_cell_is_listed_not_drawn(make_run):
    folder = make_run(epochs=1, derived=False, space="own")
    for name in ("choices.json", "metrics.jsonl"):
        text = (folder / name).read_text()
        (folder / name).write_text(
            text.replace('"stem"', '"cell/99999999<-0"').replace('"head"', '"cell/0<-7"')
        )
    html = write_report(folder).read_text()
    assert html.count('<svg class="cell"') == 1
    assert "cell/99999999&lt;-0" in html


def test_not_finite_numbers_do_not_reach_the_script(make_run):
    folder = make_run(epochs=3, derived=False)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows[1]["train_loss"] = float("inf")
    rows[1]["probabilities"]["normal/2<-0"] = [float("nan")] * 8
    rows[2]["entropy"]["normal/2<-0"] = float("nan")
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    html = write_report(folder).read_text()
    data = re.search(r'id="figures">(.*?)</script>', html, re.S)[1]
    assert not re.search(r"\bNaN\b|\bInfinity\b", data)


@pytest.mark.parametrize("library", ["plotly", "jinja2"])
def test_a_missing_library_is_named(make_run, monkeypatch, library):
    folder = make_run(epochs=1, derived=False)
    real = builtins.__import__
    page._parts.cache_clear()

    def absent(name, *args, **kwargs):
        if name.split(".")[0] == library:
            raise ImportError(f"No module named {name!r}", name=library)
        return real(name, *args, **kwargs)

    for module in [m for m in sys.modules if m.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingExtra, match=rf"needs {library}: pip install 'archgrad\[report\]'"):
        write_report(folder)
    assert not (folder / "report.html").exists()
