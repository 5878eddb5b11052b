"""Learn from corrected images: select those to train on, and compare challengers with the champion.

An improvement is a search that trains challengers on the champion's data and on corrected images.
It is also called a round, because a new champion can be improved again.

This package may import everything that `search.feedback` may import, `search.trained`, and the
overrides of a recorded search. Of `search.feedback` it may import the records and the sampling in
`monitoring`, but not the recorder or the labelling.
"""
