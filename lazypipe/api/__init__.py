"""The public API: pipelines, plans, streams, and gates and operations on your own frames."""
