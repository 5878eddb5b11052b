"""The task of detection: `task` trains and predicts, `metrics` measures boxes, `report` shows them,
`selection` chooses boxes among candidates, and `moving` moves boxes with their augmented images.
"""
