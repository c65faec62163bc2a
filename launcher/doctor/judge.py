"""All subjects in turn."""

from __future__ import annotations

from launcher.doctor import disk, driver, gpus, host, hub, network, software, trackers
from launcher.doctor.line import Line
from launcher.doctor.need import Need
from launcher.survey import Facts

SUBJECTS = (gpus, driver, software, host, disk, network, hub, trackers)


def judge(facts: Facts, need: Need) -> list[Line]:
    """Return a line for all that was found, in the order of a person's way through a machine."""
    return [line for subject in SUBJECTS for line in subject.lines(facts, need)]
