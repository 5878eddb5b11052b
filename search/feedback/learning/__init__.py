"""Learn from corrected images: select those to train on, and compare challengers with the champion.

May import whatever `feedback` may, its records, the sampling of `monitoring`, `trained`, and the
overrides of a recorded search; never the recorder or the labelling.
"""
