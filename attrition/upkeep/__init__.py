"""Keep the state whole: check every file, repair what is damaged."""
