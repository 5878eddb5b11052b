"""Objects in a bucket, and a trial's checkpoints kept there."""
