"""``axr runs tail``: one run, followed from another shell."""

from __future__ import annotations

import time

from launcher.cli.console import next_commands, plain, say, show, typed
from launcher.cli.train_panel import LAST, last_words
from launcher.cli.watching import watch
from launcher.runs import is_held, last_lines
from launcher.runs.folder import RunFolder
from launcher.watch.follow import END, Follower, Tail
from launcher.watch.seen import LIVE

EVERY = 0.5  # seconds between two looks


def panel(folder: RunFolder) -> None:
    """Show how a run goes, until it has ended."""
    with watch(Follower(folder)) as shown:
        while shown.look().state in LIVE or is_held(folder):  # it may be started again
            time.sleep(EVERY)
    if shown.look().state in ("failed", "lost"):
        for line in last_words(last_lines(folder)):
            say(f"  {plain(line)}", dim=True)
    next_commands(f"tail -n 50 {typed(str(folder.log))}")


def log(folder: RunFolder) -> None:
    """Show the end of a run's log and what comes, until the run has ended."""
    new = Tail(folder.log, first=END)
    lines = new.lines()[-LAST:]
    while True:
        live = is_held(folder)
        for line in lines:
            show(line)
        if not live and not lines:
            return
        time.sleep(EVERY if live else 0)
        lines = new.lines()
