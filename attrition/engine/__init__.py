"""Where the work is done, and what it costs."""
