"""What is known of a base model before it is downloaded."""

from launcher.models.facts import SUPPORTED, Linear, ModelFacts, UnsupportedModel, from_config
from launcher.models.find import fetch, find

__all__ = ["SUPPORTED", "Linear", "ModelFacts", "UnsupportedModel", "fetch", "find", "from_config"]
