"""The pictures of a search (`figures`) and its page (`page`); `python -m search.report NAME` writes the page."""
