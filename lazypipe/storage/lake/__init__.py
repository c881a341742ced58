"""Delta Lake: a dataset's commits written again as a Delta log over the same files, and other tools' Delta tables as sources."""
