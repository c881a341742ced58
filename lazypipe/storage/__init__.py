"""URIs, scans, sinks, and datasets with their commit log."""
