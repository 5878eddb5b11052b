"""The report: one HTML page with the answer, the evidence, every trial, and plots.

Only this package uses matplotlib. It may import `search.views` and the packages below it.
"""
