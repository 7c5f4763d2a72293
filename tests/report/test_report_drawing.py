import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archgrad.architecture import Edge
from archgrad.report.cell_drawing import cell_svg, choices_svg
from archgrad.report.palette import candidate_colours

SVG = "{http://www.w3.org/2000/svg}"
CONVOLUTIONS = ("sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "skip_connect")


def _edges(nodes, inputs=2):
    return [Edge("normal", n, s) for n in range(inputs, inputs + nodes) for s in range(n)]


def _parse(svg):
    return ElementTree.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def _boxes(svg):
    return [
        tuple(float(rect.get(k)) for k in ("x", "y", "width", "height"))
        for rect in _parse(svg).iter(f"{SVG}rect")
        if rect.get("class") == "label"
    ]


def _overlap(a, b):
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _assert_clear(svg):
    boxes = _boxes(svg)
    assert not [pair for pair in itertools.combinations(boxes, 2) if _overlap(*pair)]
    root = _parse(svg)
    _, _, width, height = map(float, root.get("viewBox").split())
    for x, y, w, h in boxes:
        assert x >= 0
        assert x + w <= width
        assert y >= 0
        assert y + h <= height
    for circle in root.iter(f"{SVG}circle"):
        x, y, r = (float(circle.get(k)) for k in ("cx", "cy", "r"))
        assert r <= x <= width - r
        assert r <= y <= height - r
        for bx, by, bw, bh in boxes:
            nearest = (min(max(x, bx), bx + bw), min(max(y, by), by + bh))
            assert (nearest[0] - x) ** 2 + (nearest[1] - y) ** 2 >= r**2
    return boxes


@pytest.mark.parametrize(("nodes", "inputs", "count"), [(4, 2, 14), (3, 1, 6), (7, 2, 35), (1, 1, 1)])
def test_labels_do_not_collide_even_when_every_edge_is_drawn(nodes, inputs, count):
    edges = dict.fromkeys(_edges(nodes, inputs), "dil_conv_3x3")
    assert len(_assert_clear(cell_svg(edges, dict.fromkeys(edges, 0.5)))) == count


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(("none", *CONVOLUTIONS, "a_much_longer_candidate_name")), min_size=14, max_size=14
    ),
    st.booleans(),
)
def test_labels_of_any_darts_cell_do_not_collide(candidates, weighted):
    edges = dict(zip(_edges(4), candidates, strict=True))
    svg = cell_svg(edges, dict.fromkeys(edges, 0.25) if weighted else None)
    assert len(_assert_clear(svg)) == sum(c != "none" for c in candidates)


def test_one_arc_per_edge_and_none_left_out():
    edges = dict.fromkeys(_edges(3, 1), "nor_conv_3x3")
    edges[Edge("normal", 2, 0)] = "none"
    root = _parse(cell_svg(edges))
    assert len([p for p in root.iter(f"{SVG}path") if p.get("class") == "edge"]) == 5
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert texts.count("nor_conv_3x3") == 5
    assert "none" not in texts
    assert {"input", "output"} <= set(texts)


def test_concatenation_joins_every_inner_node_to_the_output():
    root = _parse(cell_svg(dict.fromkeys(_edges(4), "skip_connect")))
    plain = [p for p in root.iter(f"{SVG}path") if p.get("class") != "edge"]
    assert len(plain) == 4
    assert {"out", "cell k−2", "cell k−1"} <= {t.text for t in root.iter(f"{SVG}text")}


def test_a_node_that_nothing_reaches_is_marked():
    edges = {Edge("c", 1, 0): "none", Edge("c", 2, 0): "skip_connect", Edge("c", 2, 1): "skip_connect"}
    assert "no input" in cell_svg(edges)
    assert "no input" not in cell_svg(edges | {Edge("c", 1, 0): "skip_connect"})


def test_width_of_an_arc_follows_its_probability():
    edges = dict.fromkeys(_edges(1, 2), "skip_connect")
    svg = cell_svg(edges, {Edge("normal", 2, 0): 0.1, Edge("normal", 2, 1): 0.9})
    widths = [float(w) for w in re.findall(r'class="edge".*?stroke-width:([\d.]+)', svg)]
    assert widths[1] - widths[0] == pytest.approx(4.0, abs=0.01)


def test_names_are_escaped():
    bad = "<script>alert(1)</script>"
    for svg in (cell_svg({Edge("c", 1, 0): bad}, title=bad), choices_svg([(bad, bad, 0.5)], title=bad)):
        assert "<script" not in svg
        assert "&lt;script&gt;" in svg
        _parse(svg)


def test_choices_that_are_no_edges_are_a_list_with_bars():
    root = _parse(choices_svg([("stem", "wide", 0.75), ("head", "mean", None)]))
    texts = [t.text for t in root.iter(f"{SVG}text")]
    assert texts == ["stem", "wide", "0.75", "head", "mean"]
    bars = [float(r.get("width")) for r in root.iter(f"{SVG}rect") if r.get("class") != "label"]
    assert bars[1] / bars[0] == pytest.approx(0.75)


# Machado, Oliveira & Fernandes 2009, severity 1.0, on linear RGB.
_VISION = {
    "normal": np.eye(3),
    "protanopia": np.array([
        [0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998],
    ]),
    "deuteranopia": np.array([
        [0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881],
    ]),
}  # fmt: skip


def _lab(colour, vision):
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(_VISION[vision] @ linear, 0, 1)
    xyz = np.array([
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]) @ linear / np.array([0.95047, 1.0, 1.08883])  # fmt: skip
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", list(_VISION))
@pytest.mark.parametrize("appearance", ["light", "dark"])
def test_candidates_of_the_own_spaces_can_be_told_apart(vision, appearance):
    from archgrad.architecture import NASBENCH201_CANDIDATES
    from archgrad.spaces.cell import DARTS_CANDIDATES

    for candidates in (DARTS_CANDIDATES, NASBENCH201_CANDIDATES):
        colours = candidate_colours(candidates)
        assert len(colours) == len(candidates)
        for (a, first), (b, second) in itertools.combinations(colours.items(), 2):
            difference = _lab(getattr(first, appearance), vision) - _lab(getattr(second, appearance), vision)
            assert np.linalg.norm(difference) > 12, (a, b)


def test_colours_stay_distinct_in_a_large_space():
    colours = candidate_colours([f"candidate_{i}" for i in range(8)] + ["none", "skip_connect", "conv"])
    assert len(set(colours.values())) == 11
