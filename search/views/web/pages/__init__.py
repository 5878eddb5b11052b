"""The web pages, one a file: `NAV`, its link on every page, and `routes`, made by the site.

`registry` names them. Each may import every verb's functions and what is in `search.views.web`
and in its `forms`.
"""
