"""CSV and NDJSON: cells, lines, headers, and broken rows."""
