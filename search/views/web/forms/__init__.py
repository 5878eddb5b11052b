"""The pages' forms: what they ask for, and the processes that do it apart from the server.

Values of forms are checked and become words of command lines. May import every verb's functions,
and what all pages have; never a page.
"""
