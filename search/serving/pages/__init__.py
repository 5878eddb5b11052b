"""Pages on which people see a model's answers and correct them, and the handlers of their calls.

May import `feedback`; never the server, which mounts them. Text from outside is inserted as text.
"""
