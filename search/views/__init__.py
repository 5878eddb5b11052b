"""Views for people: the terminal, the live table, the summary, and the page in `page/`.

A projection of the journal. May import the journal, statistics and what decisions are made of;
never Ray, MLflow or anything that runs.
"""
