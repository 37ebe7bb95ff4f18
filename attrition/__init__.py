"""What two or more scripts of the attrition pipeline share: one flat package, one subject a file."""
