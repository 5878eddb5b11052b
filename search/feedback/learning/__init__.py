"""Learning from corrected images: what joins the training part, and whether a challenger is better.

May import all that `feedback` may, its records, and how `monitoring` draws a sample of them; never
what records or labels.
"""
