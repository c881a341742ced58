"""What has changed since an output was written: pure values and comparisons, before anything is run."""
