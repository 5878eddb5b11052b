"""Files that are copied with an exported model, one per task, and predict without this project.

They import nothing of it; the code that trains and evaluates imports them, so that both predict
alike.
"""
