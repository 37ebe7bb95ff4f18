"""Is the deployed model still accurate, and may a candidate replace it?"""
