"""How data is best stored: measured choices of types, encodings, sort order and files, and their maintenance."""
