"""One segment of a run: its query, its gates, what it writes, and how that is published."""
