"""The code that the scripts of the attrition pipeline share, one sub-package per subject."""

__version__ = "0.1.0"
