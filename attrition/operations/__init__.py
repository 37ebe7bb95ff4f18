"""Runs, releases and repair."""
