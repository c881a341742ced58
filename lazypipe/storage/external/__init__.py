"""Files on protocols that Polars does not support, read through fsspec."""
