"""Read files and database tables as chunks of text, whatever their form."""
