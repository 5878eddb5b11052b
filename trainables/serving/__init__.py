"""What goes with a trained classifier to those who use it, and runs there without this project."""
