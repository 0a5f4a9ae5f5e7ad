"""Measuring zoos (to come)."""
