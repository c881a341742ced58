"""Running compiled pipelines: segment by segment, write, audit, publish."""
