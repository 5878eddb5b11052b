"""Objects in a bucket, and a trial's files kept there."""
