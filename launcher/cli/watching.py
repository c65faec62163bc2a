"""What ``axr train`` shows while the training goes on."""

from __future__ import annotations

from launcher import progress, runs
from launcher.cli.console import say
from launcher.runs.folder import RunFolder
from launcher.supervise.output import Plain


class Watching(Plain):
    """All that the training prints, and once how long it will really take."""

    def __init__(self, folder: RunFolder) -> None:
        """Look at the records in a run's folder."""
        super().__init__(lambda text: say(text, fg="yellow", bold=True))
        self.folder, self.seen, self.done = folder, 0, False

    def tick(self) -> None:
        """Look at the records when they have grown."""
        file = self.folder.metrics
        size = file.stat().st_size if not self.done and file.exists() else self.seen
        if size == self.seen:
            return
        self.seen = size
        if found := progress.measured(runs.read_metrics(self.folder)):
            self.say(progress.sentence(found))
            self.done = True
