"""What has changed since an output was made: pure values and comparisons, before anything is run."""
