"""Delta Lake: a dataset's commits told once more as a Delta log over the same files, and tables of others read by theirs."""
