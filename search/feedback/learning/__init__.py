"""Learning from corrected images: which join the training set, and whether a challenger is better.

May import all that `feedback` may, its records, and how `monitoring` draws a sample of them; never
what records or labels.
"""
