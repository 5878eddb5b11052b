"""The spaces of other tasks than classification, each with its task as `TASK`."""
