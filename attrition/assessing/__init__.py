"""The assessment of all current clients: every part alone, then all as one table."""
