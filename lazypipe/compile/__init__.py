"""From what was written to what will run: graph, schemas, gates, segments."""
