"""The verbs: for each, what it is asked for, what it returns, and the function that does it."""
