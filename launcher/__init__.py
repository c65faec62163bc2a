"""axolotl-recipes: validated Axolotl recipes and the launcher ``axr``."""

__version__ = "0.1.0"
