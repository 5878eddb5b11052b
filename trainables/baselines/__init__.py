"""The traditional way, to hold networks against: features made by hand (`features`) and classifiers
fitted to them once (`classifiers`).
"""
