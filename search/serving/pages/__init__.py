"""Pages on which people see what a served model says, and correct it, and what answers their calls.

May import `feedback`; never the server, which mounts them. All text from outside is set as text.
"""
