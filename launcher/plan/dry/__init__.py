"""The dry run: the installed model code on tensors without data."""
