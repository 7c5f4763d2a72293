"""A search that begins where the warm-up of another ended, so that several share one.

During ``search.warmup_epochs`` only the weights learn, and no budget has an effect. So the searches of one
configuration that differ in their budgets are the same until then, to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from archgrad.choice import Supernet
from archgrad.errors import UserError
from archgrad.language_parts import TextParts
from archgrad.parts import Parts, differences
from archgrad.runs import Run
from archgrad.search_state import SearchState
from archgrad.verbs.contents import check_same_data, load_network, read_document


class WarmStart(NamedTuple):
    """What a run had when its warm-up ended: its checkpoint, and the lines of its metrics."""

    run: Run
    checkpoint: Mapping[str, Any]
    lines: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, folder: Path | str, document: Mapping[str, Any], parts: Parts | TextParts) -> WarmStart:
        """Read it, for a search with the configuration `document`.

        Raises:
            UserError: no run there, or one whose configuration differs in more than its budgets, that has
                other data, or that is not at the end of its warm-up.
        """
        run = Run.open(folder)
        before, now = ({k: v for k, v in d.items() if k != "budget"} for d in (read_document(run), document))
        if changed := differences(before, now):
            raise UserError(
                f"a search can only share the warm-up of one with the same configuration but for budgets; "
                f"that in {folder} differs:\n" + "\n".join(f"  - {line}" for line in changed)
            )
        check_same_data(run, parts)
        checkpoint, _ = run.load_checkpoint()
        epochs = document["search"]["warmup_epochs"]
        with run.reading("checkpoints"):
            position = [0, 0] if checkpoint is None else checkpoint["search"]["position"][:2]
        if checkpoint is None or position != [epochs, 0]:
            raise UserError(
                f"{folder} is at epoch {position[0]}, step {position[1]}, and its warm-up ends after epoch "
                f"{epochs}: only there it can be shared"
            )
        return cls(run, checkpoint, tuple(run.read_lines("metrics.jsonl")[:epochs]))

    def begin(self, network: Supernet, state: SearchState) -> None:
        """Put weights, BatchNorm statistics, logits and optimizers as they were then into a search."""
        with self.run.reading("checkpoints"):
            load_network(network, self.checkpoint["network"], f"the warm-up in {self.run.folder}")
            state.load_state_dict(self.checkpoint["search"])
