"""Views for people: the live table, the summary, and the page in `page/`, named in `registry`.

A projection of the journal. May import the journal, statistics and what decisions are made of;
never Ray, MLflow or anything that runs.
"""
