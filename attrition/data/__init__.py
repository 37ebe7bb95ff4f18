"""Read sources into accepted rows, with an account of every record."""
