"""Measure what contacting clients is worth."""
