"""CSV and NDJSON: cells, lines, headers, and rows that no reader takes."""
