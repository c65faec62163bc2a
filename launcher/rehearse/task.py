"""What the child of a rehearsal is told, and the names of the files that both sides know."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

TASK = "task.json"
FIRST, AGAIN = "first.yaml", "again.yaml"


@dataclass(frozen=True)
class Task:
    """What a rehearsal is to do: everything that the child has to know, as JSON.

    ``recipe`` and ``overrides``: for a stand-in tokenizer, which is made where ``own_tokenizer`` is
    false. ``adapter``: to be merged, on a ``quantized`` model. ``again``: go on from a checkpoint.
    ``deepspeed``: the settings that its own code is asked about, or none.
    """

    recipe: str
    overrides: tuple[str, ...]
    own_tokenizer: bool
    all_layers: bool
    adapter: bool
    quantized: bool
    again: bool
    ranks: int
    deepspeed: dict[str, Any] | None

    def write(self, folder: Path) -> None:
        """Write it where the child looks for it."""
        (folder / TASK).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Task:
        """Return the task that was written to a folder."""
        return cls(**json.loads((folder / TASK).read_text(encoding="utf-8")))
