"""Starts the children, stays with them, and starts anew what stands still."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from launcher import network
from launcher.diagnostics import LauncherError
from launcher.fetch.item import Item, Trouble, amount
from launcher.fetch.talk import Child
from launcher.node.record import from_data

TRIES = 3  # starts without one new byte
ASKING = 180.0  # seconds for the imports and the first answers, whatever the patience
TICK = 0.25  # seconds
STALLED = "STALLED"
_QUIET = {
    "AXOLOTL_DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_OFFLINE": "0",
    "CUDA_VISIBLE_DEVICES": "",  # no GPU is taken, and no kernel loaded
    "WORLD_SIZE": "1",
}


@dataclass
class State:
    """How far a download is: its files, and of each the bytes that are here."""

    files: tuple[Item, ...] = ()
    prepared: int = 0
    at: dict[int, int] = field(default_factory=dict)
    stage: str = "starting"
    kernel: tuple[str, str] | None = None

    @property
    def total(self) -> int:
        """The bytes of all files."""
        return sum(one.size for one in self.files)

    @property
    def here(self) -> int:
        """The bytes that are here."""
        return sum(self.size(number) for number in range(len(self.files)))

    def size(self, number: int) -> int:
        """The bytes of a file that are here."""
        one = self.files[number]
        return one.size if one.here else min(one.size, max(one.part, self.at.get(number, 0)))


@dataclass(frozen=True)
class Outcome:
    """What came of it. ``state`` as it was at the first look, and ``end`` as it is now."""

    state: State
    end: State
    troubles: tuple[Trouble, ...]
    seconds: float

    @property
    def downloaded(self) -> int:
        """The bytes that came."""
        return max(0, self.end.here - self.state.here)


Allow = Callable[[State], bool]
Tell = Callable[[State], None]


@dataclass(frozen=True)
class Asked:
    """What to fetch: the question for the children, their environment, whether they may import
    from the working directory, and the seconds without a byte after which a connection is given up.
    """

    question: Mapping[str, Any]
    environ: Mapping[str, str]
    foreign: bool
    patience: float


def fetch(asked: Asked, allow: Allow, tell: Tell) -> Outcome:
    """Download and prepare all that is asked for. ``allow`` hears of what there is before a byte is
    downloaded, and says whether that may begin; ``tell`` hears how it goes on.

    What stands still is ended and begun again, over the plain way: hf_xet may be what stands.
    Raises ``LauncherError`` where the child breaks, or axolotl refuses the recipe.
    """
    began, first, tries, best, starts = time.monotonic(), None, 0, -1, 0
    while True:
        plain = {"HF_HUB_DISABLE_XET": "1"} if starts else {}
        question = {**asked.question, "fresh": starts == 1}
        starts += 1
        environ = {**asked.environ, **_QUIET, **plain}
        with Child("launcher.fetch.child", question, environ, foreign=asked.foreign) as child:
            run = _Run(child, asked, allow if first is None else lambda state: True, tell)
            if starts > 1:
                run.state.stage = f"no byte for {asked.patience:g} s: over a fresh connection"
            stalled = run.follow()
        first = first or run.first
        if not stalled:
            break
        tries = 1 if run.state.here > best >= 0 else tries + 1
        best = max(best, run.state.here)
        if tries >= TRIES:
            run.troubles.append(_stalled(run.state, asked))
            break
    spent = time.monotonic() - began
    return Outcome(first or run.state, run.state, tuple(run.troubles), spent)


class _Run:
    """One child, followed to its end or to where it stands still."""

    def __init__(self, child: Child, asked: Asked, allow: Allow, tell: Tell) -> None:
        self.state, self.troubles = State(), list[Trouble]()
        self.first: State | None = None
        self._child, self._asked, self._allow, self._tell = child, asked, allow, tell
        self._moved = time.monotonic()
        self._ended = False

    def follow(self) -> bool:
        """Return whether it stood still. Raises ``LauncherError``."""
        for event in self._child.events(TICK):
            self._take(event)
            self._tell(self.state)
            if self._stands_still():
                return True
        if not self._ended and not self.troubles:
            words = self._child.last_words()
            raise LauncherError(f"fetching broke: {words}", "axr doctor")
        return False

    def _take(self, event: Mapping[str, Any]) -> None:
        if "at" in event:
            self._count(*event["at"])
            return
        match event:
            case {"files": files, "prepared": prepared}:
                self._begin(tuple(from_data(Item, one) for one in files), prepared)
            case {"stage": stage}:
                self.state.stage = stage
            case {"kernel": [name, why]}:
                self.state.kernel = (name, why)
            case {"trouble": [code, name, words]}:
                self.troubles.append(Trouble(code, name, words))
            case {"refused": [fact, hint]}:
                raise LauncherError(fact, hint, exit_code=1)
        self._ended = self._ended or "end" in event
        if event:
            self._moved = time.monotonic()

    def _count(self, number: int, size: int) -> None:
        """Note the bytes of a file; fewer than were known are none that have come."""
        if size > self.state.at.get(number, 0):
            self.state.at[number] = size
            self._moved = time.monotonic()

    def _begin(self, files: tuple[Item, ...], prepared: int) -> None:
        self.state.files, self.state.prepared = files, prepared
        self.first = State(files, prepared, {}, "", self.state.kernel)
        if self._allow(self.first):
            self._child.say("go")
            return
        self._ended = True
        self._child.say("")  # an empty line, which is not a word

    def _stands_still(self) -> bool:
        if self.state.stage.startswith("preparing"):  # nothing is downloaded; it may take long
            return False
        patience = self._asked.patience
        limit = patience if self.state.stage == "downloading" else max(patience, ASKING)
        return time.monotonic() - self._moved > limit


def _stalled(state: State, asked: Asked) -> Trouble:
    """Return what to say of a download that stands still: the file, how far it is, the host."""
    host = urlsplit(network.hub(asked.environ)).hostname or ""
    times = f"no byte from {host} for {asked.patience:g} s, {TRIES} times"
    for number, one in sorted(enumerate(state.files), key=lambda pair: -state.at.get(pair[0], 0)):
        if state.size(number) < one.size:
            far = f"{amount(state.size(number))} of {amount(one.size)}"
            return Trouble(
                STALLED, one.name, f"{one.name}/{one.file} stands still at {far}: {times}"
            )
    return Trouble(STALLED, "", f"the Hub's answers stand still: {times}")


def prove(asked: Asked) -> dict[str, str]:
    """Return why each part does not load without a network; nothing where it does.

    Raises ``LauncherError`` where the child breaks, or axolotl refuses the recipe.
    """
    environ = {**asked.environ, **_QUIET, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    found: dict[str, str] = {}
    with Child("launcher.fetch.prove", asked.question, environ, foreign=asked.foreign) as child:
        for event in child.events(TICK):
            match event:
                case {"part": part, "why": why}:
                    found[part] = why
                case {"refused": [fact, hint]}:
                    raise LauncherError(fact, hint, exit_code=1)
        if "weights" not in found:
            raise LauncherError(f"the look without a network broke: {child.last_words()}")
    return found
