"""Web pages on which people see and correct a model's answers, with the handlers of their requests.

May import `feedback`; never the server, which mounts them. Text from outside is never inserted into
a page as HTML.
"""
