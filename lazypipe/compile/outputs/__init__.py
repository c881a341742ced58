"""Outputs as they are bound: write modes, formats, contracts and panes."""
