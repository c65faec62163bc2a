"""Where a run finds its tokenized data: that of an earlier run, or its own."""

from __future__ import annotations

from collections.abc import Mapping

from launcher import prepared
from launcher.cli.console import say
from launcher.dataset.digest import digests
from launcher.launch import OWN_ROWS, PREPARED, Launch, with_prepared
from launcher.prepared import Shared
from launcher.recipe import Recipe


def placed(
    launch: Launch, rows: Mapping[str, str], environ: Mapping[str, str], *, foreign: bool
) -> tuple[Launch, Shared | None]:
    """Return the launch with the place of its tokenized data, and where other runs may find what
    this one makes: none where it makes none, or none that they could use.
    """
    own = launch.folder.prepared
    if launch.resolved.get(PREPARED) != str(own) or own.exists():
        return launch, None
    found = prepared.shared(
        launch.resolved, rows, launch.folder.root.parent, environ, foreign=foreign
    )
    if found.place is None:
        why = f"{OWN_ROWS}; shared with no other run: {found.why}"
        return with_prepared(launch, own, why), None
    if maker := found.maker:
        why = f"tokenised by {maker} from the same rows, in the same way"
        return with_prepared(launch, found.place, why), None
    if found.place.exists():
        say(f"  data     {found.place} is not whole, or not writable, and is not read: delete it")
    return launch, found if launch.folder.node == 0 else None


def keep(launch: Launch, place: Shared, recipe: Recipe, environ: Mapping[str, str]) -> None:
    """Leave what a run has tokenised to others, once its training has begun: then it is whole."""
    folder = launch.folder
    trained = folder.ranks.is_dir() and any(folder.ranks.iterdir())
    if trained and prepared.keep(
        folder.prepared, place, digests(recipe), folder.root.name, environ
    ):
        say(f"  data     tokenised for other runs, too: {place.place}")
