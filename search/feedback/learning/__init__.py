"""Learn from corrected images: select those to train on, and compare challengers with the champion.

An improvement is a search that trains challengers on the champion's data and on corrected images.
It is also called a round, because a new champion can be improved again.

This package may import what `feedback` may, and the records, the sampling of `monitoring`,
`trained`, and the overrides of a recorded search. It may not import the recorder or the labelling.
"""
