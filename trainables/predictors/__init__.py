"""Files that are copied with an exported model, and predict without this project.

They import nothing of it; the code that trains and evaluates imports them, so that both predict
alike. That of classification is `trainables/export/predictor.py`.
"""
