"""The report: one HTML page with the answer, the evidence and every trial, and its pictures.

Only this package draws. May import the journal, statistics and the summary's words.
"""
