"""Store objects in a bucket or a folder, and mirror a trial's checkpoints in a bucket."""
