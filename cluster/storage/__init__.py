"""Objects in a bucket or a folder, and a trial's checkpoints there."""
