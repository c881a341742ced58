"""Datasets: data files, and the commit log that says which of them are current."""
