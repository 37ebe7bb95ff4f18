"""Documents for people: figures, PDF, model card."""
