"""Outputs of a definition, bound: write modes, formats, contracts and panes."""
