"""Web pages on which people see and correct a model's answers, with the handlers of their requests.

May import `feedback`; never the server, which mounts them. Text from outside is inserted as text.
"""
