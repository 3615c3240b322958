"""Simulated radiographs with known truth. Needs requirements-simulate.txt; the app does not."""
