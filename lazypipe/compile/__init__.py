"""From the definition to what will run: graph, schemas, gates, segments."""
