"""Times the ONNX models of a kit on this device and writes a latency table.

Made by ``archgrad latency --kit``; needs Python, numpy and onnxruntime, and timing.py beside it:

    python measure.py --out table.json --threads 1

It can be stopped and called again: rounds that are done are kept in table.json.partial.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from archgrad.latency.timing import (
    CLOCKS,
    Call,
    ClockTimer,
    Plan,
    Summary,
    Timer,
    TimingError,
    measure,
    summary,
)

FORMAT, VERSION = "archgrad-latency", 2
"""Version 2 has choices inside candidates of others, `nested`."""
MANIFEST_FORMAT = "archgrad-latency-kit"
EMPTY = "empty"
"""Name of the model that does nothing: what a call of ONNX Runtime costs by itself."""

Show = Callable[[str, int, int, str], None]
"""``(what, rounds done, rounds wanted, numbers)``."""


class Calls(NamedTuple):
    """What is timed, and how.

    pieces: a call for each piece of the manifest, and for `EMPTY` where a call costs something by itself.
    whole: makes the calls of the whole networks, in the manifest's order; only when they are needed.
    timer: reads the clock, or what a GPU says.
    """

    pieces: Mapping[str, Call]
    whole: Callable[[], Sequence[Call]]
    timer: Timer


def processor() -> str:
    """Name of the processor as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = dict(line.partition(":")[::2] for line in lines)
    found = {key.strip(): value.strip() for key, value in named.items()}
    for key in ("model name", "Model", "Hardware"):
        if found.get(key):
            return found[key]
    return platform.processor() or platform.machine()


def device(threads: int, accelerator: str | None = None) -> dict[str, Any]:
    """The machine, as a table keeps it; no host or user name."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "accelerator": accelerator,
        "system": f"{platform.system()} {platform.machine()}",
    }


def session_of(model: bytes, threads: int, provider: str = "CPUExecutionProvider") -> Any:
    """An ONNX Runtime session with so many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors only
    return onnxruntime.InferenceSession(model, options, providers=[provider])


def call_of(session: Any, shape: Sequence[int], batch: int) -> Call:
    """One run of a session on random images [B, C, H, W]."""
    import numpy

    images = numpy.random.default_rng(0).standard_normal((batch, *shape)).astype(numpy.float32)
    feed = {session.get_inputs()[0].name: images}
    return lambda: session.run(None, feed)


def kit_calls(
    folder: Path, manifest: Mapping[str, Any], threads: int, provider: str, clock: str = "wall"
) -> Calls:
    """The calls of a kit's models."""

    def call(file: str, shape: Sequence[int]) -> Call:
        session = session_of((folder / file).read_bytes(), threads, provider)
        return call_of(session, shape, manifest["batch"])

    pieces = {key: call(piece["file"], piece["inputs"][0]) for key, piece in manifest["pieces"].items()}
    pieces[EMPTY] = call(manifest[EMPTY]["file"], manifest[EMPTY]["inputs"][0])
    whole, timer = manifest["whole"], ClockTimer(CLOCKS[clock])
    return Calls(pieces, lambda: [call(one["file"], manifest["space"]["shape"]) for one in whole], timer)


def table_of(
    manifest: Mapping[str, Any],
    calls: Calls,
    plan: Plan,
    where: Mapping[str, Any],
    partial: Path,
    show: Show = lambda what, done, wanted, numbers: None,
    measured: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure the pieces of a manifest, then its whole networks; returns the table's document.

    Args:
        manifest: what to measure.
        calls: how to run it.
        plan: rounds and so on.
        where: `device`, `backend` and `clock` of the table.
        partial: rounds that are done are kept in this file, and gone on with if it is there and of the same
            manifest, device and plan.
        show: progress.
        measured: a table of the same pieces, which are then not measured again.
    """
    identity = digest([manifest, where, plan.__dict__])
    state = _sessions(partial, identity)

    def timed(what: str, named: Mapping[str, Call]) -> Summary:
        def keep(session: dict[str, Any]) -> None:
            state[what] = session
            write_json(partial, {"identity": identity, "sessions": state})

        session = measure(
            named,
            plan,
            calls.timer,
            session=state.get(what),
            keep=keep,
            show=lambda done, numbers: show(what, done, plan.rounds, numbers),
        )
        return summary(session, plan)

    table = dict(measured) if measured is not None else _pieces(manifest, timed("pieces", calls.pieces), plan)
    table.update(where)
    table["whole"] = None
    if manifest["whole"]:
        networks = calls.whole()
        reference = table["reference"]
        named = {str(i): network for i, network in enumerate(networks)}
        found = timed("networks", {**named, reference: calls.pieces[reference]})
        table["whole"] = {
            "networks": [
                {"architecture": one["architecture"], **entry(found, str(i))}
                for i, one in enumerate(manifest["whole"])
            ],
            "rounds": _rounds(found),
            "reference_change": found.spreads[reference].median
            / (table["entries"] | {EMPTY: table["call"]})[reference]["median"]
            * 1e3
            - 1,
        }
    return table


def _pieces(manifest: Mapping[str, Any], found: Summary, plan: Plan) -> dict[str, Any]:
    kept = ("space", "batch", "precision", "groups", "nested", "fixed", "uncounted")
    return {
        "format": FORMAT,
        "version": VERSION,
        "date": datetime.date.today().isoformat(),
        "unit": "ms",
        **{key: manifest[key] for key in kept},
        "plan": {"rounds": plan.rounds, "reading_seconds": plan.reading_seconds, "drift": plan.drift},
        "rounds": _rounds(found),
        "reference": found.reference,
        "call": entry(found, EMPTY) if EMPTY in found.spreads else None,
        "entries": {
            key: {"what": piece["what"], "idle": piece["idle"], **entry(found, key)}
            for key, piece in manifest["pieces"].items()
        },
    }


def entry(found: Summary, key: str) -> dict[str, Any]:
    """What is kept of one call, in milliseconds."""
    numbers = found.spreads[key]._asdict()
    counts = ("n", "outliers")
    return {name: n if name in counts else float(f"{1e3 * n:.6g}") for name, n in numbers.items()}


def _rounds(found: Summary) -> dict[str, Any]:
    return {
        "counted": found.rounds,
        "dropped": found.dropped,
        "drift": round(found.drift, 4),
        "noise": round(found.noise, 4),
        "tau": round(found.tau, 4),
        "warnings": list(found.warnings),
    }


def _sessions(partial: Path, identity: str) -> dict[str, Any]:
    """What an earlier call left, if it was of the same."""
    try:
        document = json.loads(partial.read_text(encoding="utf-8"))
        return dict(document["sessions"]) if document["identity"] == identity else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def digest(document: Any) -> str:
    """A number for a document of plain values."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def write_json(path: Path, document: Any) -> None:
    """Write a JSON file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.write(_text(document))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _text(document: Any) -> str:
    """JSON with one entry a line."""
    lines = []
    for key, value in document.items():
        if isinstance(value, dict) and value and all(isinstance(v, dict) for v in value.values()):
            rows = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
            lines.append(f"  {json.dumps(key)}: {{\n{rows}\n  }}")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def threads_of(text: str) -> int:
    """A number of threads; ``all`` is one a core."""
    if text == "all":
        return os.cpu_count() or 1
    if not text.isdigit() or int(text) < 1:
        raise ValueError(f"wanted a number of threads from 1 on, or all, got {text!r}")
    return int(text)


def check_clock(clock: str, threads: int) -> None:
    """Refuse a clock that does not see all threads.

    Raises:
        ValueError: says which one does.
    """
    if clock not in CLOCKS:
        raise ValueError(f"unknown clock {clock!r}; known: {', '.join(CLOCKS)}")
    if clock == "processor" and threads > 1:
        raise ValueError(
            f"the processor's time is that of one thread, and there are {threads}: take --clock wall, or "
            "--threads 1"
        )


def onnx_backend(provider: str) -> dict[str, Any]:
    """The backend, as a table keeps it."""
    import numpy
    import onnxruntime

    return {
        "name": "onnxruntime",
        "provider": provider,
        "versions": {"onnxruntime": onnxruntime.__version__, "numpy": numpy.__version__},
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the kit in this folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("table.json"))
    parser.add_argument("--threads", default="1", help="a number, or all")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--drift", type=float, default=0.1, help="share that the reference may be off")
    parser.add_argument("--clock", default="wall", help="wall, or processor on a busy machine")
    parser.add_argument("--provider", default="CPUExecutionProvider", help="of ONNX Runtime")
    given = parser.parse_args(arguments)
    folder = Path(__file__).resolve().parent
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest.get("format") != MANIFEST_FORMAT or manifest.get("version") != VERSION:
        print("manifest.json is not of this version of the kit: write the kit anew", file=sys.stderr)
        return 2
    try:
        threads, plan = threads_of(given.threads), Plan(given.rounds, drift=given.drift)
        check_clock(given.clock, threads)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    where = {"device": device(threads), "backend": onnx_backend(given.provider), "clock": given.clock}
    calls = kit_calls(folder, manifest, threads, given.provider, given.clock)
    said = -math.inf

    def show(what: str, done: int, wanted: int, numbers: str) -> None:
        nonlocal said
        if time.monotonic() - said > 2 or done == wanted:
            said = time.monotonic()
            print(f"{what}: {done}/{wanted}  {numbers}", file=sys.stderr, flush=True)

    partial = given.out.with_name(given.out.name + ".partial")
    try:
        table = table_of(manifest, calls, plan, where, partial, show)
    except TimingError as error:
        print(error, file=sys.stderr)
        return 1
    write_json(given.out, table)
    partial.unlink(missing_ok=True)
    for rounds in (table["rounds"], (table["whole"] or {}).get("rounds", {})):
        for warning in rounds.get("warnings", ()):
            print(f"warning: {warning}", file=sys.stderr)
    print(f"wrote {given.out}: {len(table['entries'])} pieces")
    return 0


if __name__ == "__main__":
    sys.exit(main())
