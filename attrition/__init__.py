"""What two or more scripts of the attrition pipeline share: one flat package, one subject a file."""

__version__ = "0.1.0"
