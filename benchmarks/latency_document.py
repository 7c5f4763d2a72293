"""Puts the tables of the latency benchmarks into docs/latency.md, from the kept results.

python benchmarks/latency_document.py
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from record import RESULTS

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "latency.md"


def kept(name: str) -> dict[str, Any]:
    """A result by name."""
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    return found


def source(name: str) -> str:
    """Where the numbers are from."""
    result = kept(name)
    return (
        f"From [{name}.json](../benchmarks/results/{name}.json), commit {str(result['commit'])[:7]}, "
        f"{result['hardware']['cpu']} with {result['hardware']['cores']} cores."
    )


def validation() -> list[str]:
    """How well tables predict whole networks."""
    result = kept("latency_validation")
    lines = [
        "| networks | pieces | ms | sum: τ | error | the table | τ | error |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, case in result["cases"].items():
        found, (low, high) = case["validation"], case["bounds_ms"]
        plain, model = found["models"]["sum"], found["models"][found["model"]]
        lines.append(
            f"| {name} | {case['pieces']} | {low:.2f} to {high:.2f} | {plain['tau']:.2f} | "
            f"{plain['error']:.1%} | `{found['model']}` | {model['tau']:.2f} | {model['error']:.1%} |"
        )
    networks = {case["validation"]["networks"] for case in result["cases"].values()}
    return [
        *lines,
        "",
        f"{', '.join(map(str, sorted(networks)))} networks each. {source('latency_validation')}",
    ]


def targets() -> list[str]:
    """Whether latency targets are met by the networks as they run."""
    result = kept("latency_target")
    lines = [
        "| space | target, ms | table | measured | off target | machine slower | at its speed | off target |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for space, case in result["cases"].items():
        for row in case["targets"]:
            lines.append(
                f"| `{space}` | {row['target_ms']:.3f} ± 5 % | {row['predicted_ms']:.3f} | "
                f"{row['measured_ms']:.3f} | {row['off_target']:+.1%} | {row['reference_change']:+.1%} | "
                f"{row['then_ms']:.3f} | {row['then_off_target']:+.1%} |"
            )
    return [*lines, "", source("latency_target")]


def put(text: str, name: str, lines: list[str]) -> str:
    """The document with these lines between the marks of that name."""
    head, rest = re.split(rf"(?<=<!-- {name}: begin)", text, maxsplit=1)
    opening, rest = rest.split("-->", 1)
    table = "\n".join(lines)
    return f"{head}{opening}-->\n{table}\n<!-- {name}: end -->{rest.split(f'<!-- {name}: end -->', 1)[1]}"


def main() -> int:
    check = "--check" in sys.argv[1:]
    before = text = DOCUMENT.read_text(encoding="utf-8")
    for name, lines in (("validation", validation), ("targets", targets)):
        text = put(text, name, lines())
    if not check:
        DOCUMENT.write_text(text, encoding="utf-8")
    return int(check and text != before)


if __name__ == "__main__":
    sys.exit(main())
