"""The main job from end to end on real images: what ``archgrad demo`` and ``make demo`` run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from archgrad.progress import Progress, clock
from archgrad.runs import Run
from archgrad.summary import trained_table
from archgrad.verbs import derive_run, export_run, report_run, search_run, train_run

SETTINGS: dict[str, Any] = {
    "method": "snas",
    "data": {"name": "digits"},
    "space": {"name": "nasbench201"},
    # 8×8 images are too small to share between threads, and one thread gives the same digits everywhere
    "device": {"threads": 1},
}
"""What the demo sets; everything else follows from the preset and the rules for small data."""

CONTROLS = 2


def run_demo(folder: Path, seed: int, progress: Progress) -> tuple[dict[str, Any], str]:
    """Search, derive, train beside controls, export and report; returns (document, text)."""
    started = time.perf_counter()
    if Run(folder).exists("config.yaml"):
        aside = _free(folder)
        folder.rename(aside)
        progress.say(f"{folder} held a demo already: moved to {aside}")
    progress.say("1/5 search: handwritten digits, NAS-Bench-201 cell, SNAS")
    search_run({**SETTINGS, "seed": seed}, folder, progress=progress)
    progress.say("2/5 derive")
    derivation = derive_run(folder)
    progress.say(str(derivation))
    progress.say(f"3/5 train the derived network and {CONTROLS} random ones and a ResNet, on the same budget")
    trained = train_run(folder, controls=CONTROLS, progress=progress)
    progress.say("4/5 export")
    exported = export_run(folder)
    progress.say("5/5 report")
    report = report_run(folder)
    seconds = time.perf_counter() - started
    document = {
        "run": str(folder),
        "test_accuracy": trained.derived["test_accuracy"],
        "controls": {c["name"]: c["test_accuracy"] for c in trained.controls},
        "parameters": trained.derived["parameters"],
        "macs": trained.derived["macs"],
        "onnx": str(exported.onnx.path),
        "standalone": str(exported.standalone.folder),
        "report": str(report),
        "seconds": seconds,
    }
    text = (
        f"{trained_table(trained.derived, trained.controls)}\n\n"
        f"done in {clock(seconds)}\n"
        f"  report       {report}\n"
        f"  ONNX         {exported.onnx.path}\n"
        f"  stand-alone  {exported.standalone.folder}  (needs only PyTorch)"
    )
    return document, text


def _free(folder: Path) -> Path:
    number = 1
    while (aside := folder.with_name(f"{folder.name}-{number}")).exists():
        number += 1
    return aside
