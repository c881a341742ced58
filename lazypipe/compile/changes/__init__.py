"""How a change in a source reaches an output: derived from operations and plans."""
