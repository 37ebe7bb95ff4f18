"""Does the deployed model still hold?"""
