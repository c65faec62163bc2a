"""Trackers: their packages and keys."""

from __future__ import annotations

from launcher import trackers
from launcher.diagnostics import Code, Severity
from launcher.doctor.line import Line, Lines, bad, ok, unchecked
from launcher.doctor.need import Need
from launcher.survey import Facts
from launcher.trackers import TITLES, Tracker

NO_KEY = Code(
    "N410",
    "tracker-key-missing",
    Severity.ERROR,
    "A tracker is switched on, and its key is not set.\n\n"
    "The run dies when the trainer starts, or waits for an answer on the terminal.",
)
NO_PACKAGE = Code(
    "N411",
    "tracker-not-installed",
    Severity.ERROR,
    "A tracker is switched on, and its package is not installed.\n\n"
    "Comet and MLflow do not come with axolotl; the run dies after the model is loaded, or goes on "
    "without them.",
)
BAD_KEY = Code(
    "N412",
    "tracker-key-refused",
    Severity.ERROR,
    "W&B does not know the key.",
)
_KEYS = {
    trackers.WANDB: ("WANDB_API_KEY", "wandb_mode: offline", "wandb_project"),
    trackers.COMET: ("COMET_API_KEY", "comet_online: false", "comet_project_name"),
    trackers.MLFLOW: ("MLFLOW_TRACKING_TOKEN", "", "mlflow_experiment_name"),
}
_DISTRIBUTIONS = {trackers.WANDB: "wandb", trackers.COMET: "comet-ml", trackers.MLFLOW: "mlflow"}


def lines(facts: Facts, need: Need) -> Lines:
    """Yield what is to say of each tracker that is switched on."""
    for name in need.trackers:
        found = next((one for one in facts.trackers if one.name == name), None)
        yield _tracker(found, need) if found else unchecked(TITLES[name], "no answer in time")


def _tracker(found: Tracker, need: Need) -> Line:
    title, (variable, instead, key) = TITLES[found.name], _KEYS[found.name]
    span = need.span(key)
    if not found.installed:
        words = f"{_DISTRIBUTIONS[found.name]} is not installed for this Python"
        hint = f"uv pip install {_DISTRIBUTIONS[found.name]}\nor go without: {key}: null"
        return bad(title, NO_PACKAGE, words, hint, span)
    if not trackers.needs_key(found.name, need.settings, need.environ):
        return ok(title, "needs no key")
    if not found.key:
        hint = f"set {variable}, in .env or exported\nor go without the service: {instead}"
        return bad(title, NO_KEY, f"{variable} is not set", hint, span)
    if found.valid is False:
        hint = f"set {variable} to a key that is valid: https://wandb.ai/authorize"
        return bad(title, BAD_KEY, "the key is refused", hint, span)
    return ok(title, "the key is valid" if found.valid else f"{variable} is set{_why(found)}")


def _why(found: Tracker) -> str:
    return f"; not tried: {found.why}" if found.why else ""
