"""A whole recipe on a CPU: the same axolotl, the same rows, with a model of random weights."""
