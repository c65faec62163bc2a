"""The closed JSON Schema of recipes: generated from the pinned axolotl, and checked against."""
