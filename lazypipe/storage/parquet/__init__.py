"""Parquet: footers and row groups, read and cut without decoding data."""
