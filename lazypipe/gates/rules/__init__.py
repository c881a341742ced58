"""The catalogue of rules: a module per family."""
