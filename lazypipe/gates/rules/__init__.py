"""The catalogue of rules: one module per family."""
