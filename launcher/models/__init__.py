"""What is known of a base model before it is downloaded."""

from launcher.models.facts import SUPPORTED, Linear, ModelFacts, UnsupportedModel, from_config
from launcher.models.find import config, fetch, fetch_config, find

__all__ = [
    "SUPPORTED",
    "Linear",
    "ModelFacts",
    "UnsupportedModel",
    "config",
    "fetch",
    "fetch_config",
    "find",
    "from_config",
]
