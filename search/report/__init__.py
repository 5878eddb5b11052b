"""The pictures of a search and its page (`page`), whose words are in `verdict` and whose tables in `facts`; `python -m search.report NAME` writes it."""
