"""Sources to accepted rows, with an account of every record."""
