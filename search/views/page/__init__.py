"""The report: one HTML page with the answer, its evaluation, all trials, and plots.

Only this package uses matplotlib. It may import `search.views` and the packages below it.
"""
