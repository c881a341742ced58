"""The public face: definitions that compile, plans that run, gates and operations on frames of one's own."""
