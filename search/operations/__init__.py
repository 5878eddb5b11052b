"""The verbs as functions: each module has a request, an outcome, and the function of one verb."""
