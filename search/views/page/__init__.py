"""The report: one HTML page with the answer, the evidence and every trial, and its pictures.

The only room that draws. May import the journal, statistics and the summary's words.
"""
