"""What a channel selection found: a sentence and a table, a heat map as SVG, and both as one HTML page.

All of them read the document of `archgrad.verbs.channels_run`, never live objects. n channels.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from archgrad.frequency.block_dct import BLOCK
from archgrad.summary import compare

# On a ground of its own, so that a dark page hides nothing; the steps are those of the report's light scale.
_GROUND, _INK, _FAINT, _CHOSEN = "#fbfbfa", "#24292f", "#c9ccd1", "#d55e00"
_SCALE = ("#f4f7fa", "#b9d9ea", "#63aed3", "#1c75ae", "#08306b")
_CELL, _GAP, _TOP, _LEFT = 34, 44, 62, 46

_FAIR = (
    "Every network has the same residual network behind its first layer, the same budget and the same "
    "images; the test images are looked at once for each, at the end."
)
_SAFE = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
)
_OWN_STYLE = (
    ".numbers td.left, .numbers thead th.left { text-align: left; white-space: normal; min-width: 13em; }"
)
_KINDS = {
    "selected": "the channels that the gates kept",
    "random": "as many channels at random",
    "lowest": "as many of the lowest frequencies",
    "all": "all channels",
    "learned": "as many 8×8 filters, learned",
    "gates": "all channels behind gates, open where likelier than not",
}


def verdict(document: Mapping[str, Any]) -> str:
    """One sentence: how the selected channels stand to random ones and to the lowest frequencies.

    Random subsets are compared as in `archgrad.summary.compare`. Of the lowest frequencies there is one
    network, so "level" is a difference within twice the standard error that the number of test images leaves;
    that another training would have come out otherwise is not in it.
    """
    selected, controls = document["selected"]["test_accuracy"], document["controls"]
    random = [c["test_accuracy"] for c in controls if c["kind"] == "random"]
    if not random:
        return "no controls were trained: add --controls N to see whether the selection was worth it"
    (low,) = (c["test_accuracy"] for c in controls if c["kind"] == "lowest")
    to_random = {
        "beaten": "beat random subsets",
        "unclear": "did not clearly beat random subsets",
        "lost": "did NOT beat random subsets",
    }[compare(selected, random).outcome]
    variance = selected * (1 - selected) + low * (1 - low)
    error = math.sqrt(variance / document["selected"]["test_images"])
    to_low = "level with" if abs(selected - low) <= 2 * error else "above" if selected > low else "BELOW"
    spread = f" ± {statistics.stdev(random):.2%}" if len(random) > 1 else ""
    return (
        f"the selection {to_random} and is {to_low} the lowest frequencies: {selected:.2%} against "
        f"{statistics.mean(random):.2%}{spread} of {len(random)} random subset(s) and {low:.2%}"
    )


def table(document: Mapping[str, Any]) -> str:
    """A line per network, then the kept channels and `verdict`, as plain text."""
    rows = [document["selected"], *document["controls"], document["gates"]]
    head = ("network", "channels", "test accuracy", "parameters", "M MACs", "seconds")
    lines = ["{:<12} {:>8} {:>13} {:>11} {:>8} {:>7}".format(*head)]
    lines += [
        f"{r['name']:<12} {_channels(r, document):>8} {r['test_accuracy']:>13.2%} {r['parameters']:>11,} "
        f"{r['macs'] / 1e6:>8.2f} {r['seconds']:>7.0f}"
        for r in rows
    ]
    every = len(document["names"]) == len(document["probability"])
    lines.append(f"kept: {'every channel' if every else ', '.join(document['names'])}")
    gates = document["gates"]
    lines.append(
        f"gates: open where likelier than not; drawn as in training {gates['drawn_accuracy']:.2%} are right"
    )
    return "\n".join([*lines, verdict(document)])


def _channels(row: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    """How many channels a network computes; of gates the mean number that is open."""
    if row["kind"] == "gates":
        return f"{row['expected_open']:.1f}"
    chosen = row["settings"].get("channels")
    return str(
        row["settings"].get("filters") or (len(document["probability"]) if chosen is None else len(chosen))
    )


def heat_map(document: Mapping[str, Any]) -> str:
    """An 8×8 map for each colour: how likely each gate is open, kept channels in an orange frame."""
    colours, chosen = document["colours"], set(document["channels"])
    side = BLOCK * _CELL
    title = f"P(gate open) in %, mean over {document['gate_images']:,} images; framed: the {len(chosen)} kept"
    width = max(_LEFT + len(colours) * (side + _GAP), 560)
    height = _TOP + side + 84
    parts = [
        _opening(width, height),
        f'<rect width="{width}" height="{height}" fill="{_GROUND}"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{title}</text>',
    ]
    for place, colour in enumerate(colours):
        x = _LEFT + place * (side + _GAP)
        parts.append(f'<text x="{x}" y="{_TOP - 22}" font-weight="bold">{escape(colour)}</text>')
        frames = []  # over all cells, so that no neighbour covers a part of one
        for index in range(BLOCK * BLOCK):
            u, v = divmod(index, BLOCK)
            left, top, channel = x + v * _CELL, _TOP + u * _CELL, place * BLOCK * BLOCK + index
            p = document["probability"][channel]
            name = f"{colour} {u},{v}: {p:.1%}"
            parts.append(
                f'<rect x="{left}" y="{top}" width="{_CELL}" height="{_CELL}" fill="{_shade(p)}" '
                f'stroke="{_FAINT}" stroke-width="0.5"><title>{escape(name)}</title></rect>'
                f'<text x="{left + _CELL / 2}" y="{top + _CELL / 2 + 4}" text-anchor="middle" font-size="11" '
                f'fill="{"#ffffff" if p > 0.6 else _INK}" pointer-events="none">{100 * p:.0f}</text>'
            )
            if channel in chosen:
                frames.append(
                    f'<rect x="{left + 1.5}" y="{top + 1.5}" width="{_CELL - 3}" height="{_CELL - 3}" '
                    f'fill="none" stroke="{_CHOSEN}" stroke-width="3" pointer-events="none"/>'
                )
        parts += frames
        for k in range(BLOCK):
            middle = k * _CELL + _CELL / 2
            parts.append(
                f'<text x="{x + middle}" y="{_TOP - 6}" text-anchor="middle" font-size="10">{k}</text>'
            )
            parts.append(
                f'<text x="{x - 8}" y="{_TOP + middle + 4}" text-anchor="end" font-size="10">{k}</text>'
            )
    middle = _TOP + side / 2
    turned = f'text-anchor="middle" transform="rotate(-90 14 {middle})"'
    parts += [
        f'<text x="14" y="{middle}" {turned}>u, vertical</text>',
        f'<text x="{_LEFT}" y="{_TOP + side + 20}">v, horizontal half waves in a block</text>',
        *_legend(_LEFT, _TOP + side + 40),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _opening(width: int, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" font-family="DejaVu Sans, sans-serif" font-size="12" fill="{_INK}" role="img" '
        'aria-label="Probability of each frequency channel to be open">'
    )


def _legend(x: int, y: int) -> list[str]:
    steps, width = 40, 6
    parts = [
        f'<rect x="{x + k * width}" y="{y}" width="{width + 0.5}" height="12" '
        f'fill="{_shade(k / (steps - 1))}"/>'
        for k in range(steps)
    ]
    for share in (0.0, 0.5, 1.0):
        parts.append(
            f'<text x="{x + share * steps * width:.0f}" y="{y + 28}" text-anchor="middle" font-size="10">'
            f"{share:.0%}</text>"
        )
    return parts


def _shade(p: float) -> str:
    """The colour of a probability, between the steps of the scale.

    >>> _shade(0.0), _shade(0.125), _shade(1.0)
    ('#f4f7fa', '#d6e8f2', '#08306b')
    """
    place = min(max(p, 0.0), 1.0) * (len(_SCALE) - 1)
    below = min(int(place), len(_SCALE) - 2)

    def channels(text: str) -> list[int]:
        return [int(text[k : k + 2], 16) for k in (1, 3, 5)]

    pairs = zip(channels(_SCALE[below]), channels(_SCALE[below + 1]), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * (place - below)):02x}" for a, b in pairs)


def page(document: Mapping[str, Any]) -> str:
    """One HTML page, without scripts, that opens offline: the sentence, the networks, the heat map."""
    style = (resources.files("archgrad.report") / "page.css").read_text(encoding="utf-8")
    rows = [document["selected"], *document["controls"], document["gates"]]
    head = (
        "network",
        "what it sees",
        "channels",
        "test accuracy",
        "training accuracy",
        "parameters",
        "M MACs",
    )
    frequency, train = document["settings"]["frequency"], document["settings"]["train"]
    height, width = document["shape"][1:]
    facts = {
        "data": f"{document['data']}, {height}×{width}",
        "blocks": f"8×8, {frequency['stride']} pixels apart",
        "strength": f"{frequency['strength']:g} nats an open gate",
        "epochs": train["epochs"],
        "seed": document["settings"]["seed"],
    }
    body = [
        '<p class="eyebrow">archgrad channels</p>',
        f"<h1>{len(document['channels'])} of {len(document['probability'])} frequency channels</h1>",
        '<ul class="facts">'
        + "".join(f"<li><span>{escape(k)}</span> {escape(str(v))}</li>" for k, v in facts.items())
        + "</ul>",
        f'<p class="verdict">{escape(_sentence(verdict(document)))}</p>',
        '<div class="card scroll"><table class="numbers"><thead><tr>'
        + "".join(f"<th{' class=left' if k == 1 else ''}>{text}</th>" for k, text in enumerate(head))
        + "</tr></thead><tbody>",
        *(_row(row, document) for row in rows),
        "</tbody></table></div>",
        f'<p class="lead">{_FAIR}</p>',
        f'<div class="card scroll">{heat_map(document)}</div>',
        f"<h2>Kept</h2><p>{escape(_listed(document['names']))}</p>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{_SAFE}<title>Frequency channels of {escape(document['data'])}</title>"
        f"<style>{style}{_OWN_STYLE}</style></head><body>\n" + "\n".join(body) + "\n</body></html>\n"
    )


def _row(row: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    sees = _KINDS[row["kind"]]
    if row["kind"] == "gates":
        sees = f"{sees} ({row['drawn_accuracy']:.2%} if drawn)"
    cells = (
        escape(sees),
        _channels(row, document),
        f"{row['test_accuracy']:.2%}",
        f"{row['train_accuracy']:.2%}",
        f"{row['parameters']:,}",
        f"{row['macs'] / 1e6:.2f}",
    )
    mark = ' class="derived"' if row["kind"] == "selected" else ""
    return (
        f'<tr{mark}><th scope="row">{escape(row["name"])}</th>'
        + "".join(f"<td{' class=left' if k == 0 else ''}>{cell}</td>" for k, cell in enumerate(cells))
        + "</tr>"
    )


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
