"""Arithmetic of a run before it is rented: memory by term and by phase."""
