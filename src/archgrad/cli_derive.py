"""The verb ``archgrad derive``."""

from __future__ import annotations

from pathlib import Path

import click

from archgrad.cli_shared import AS_JSON, RUN, show


@click.command()
@RUN
@click.option("--rule", help="argmax, darts, snas or rnn; default: the method's and the space's.")
@click.option("--best", is_flag=True, help="From the logits of the best epoch, not of the last.")
@click.option("--budget", "budgets", multiple=True, help="In place of the run's own, e.g. macs=60M±3%.")
@AS_JSON
def derive(run: Path, rule: str | None, best: bool, budgets: tuple[str, ...], as_json: bool) -> None:
    """Turn the logits of a search into an architecture, and say how decided each choice is.

    \b
    Example:
      archgrad derive runs/first
      archgrad derive runs/first --budget macs=1M
    """
    from archgrad.budgets.budget import as_setting
    from archgrad.summary import derived_text
    from archgrad.verbs import derive_run

    derivation = derive_run(run, rule, best, as_setting(budgets))
    show(
        {"architecture": dict(derivation.architecture), **derivation.document()},
        as_json,
        f"{derivation}\n\n{derived_text(derivation)}\nnext: archgrad train {run}",
    )
