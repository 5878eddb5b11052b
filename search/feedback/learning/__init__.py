"""Learning from corrected images: what joins the training part, and whether a challenger is better.

May import all that `feedback` may, and its records; never what records, watches or labels.
"""
