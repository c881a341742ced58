"""Files whose protocol Polars does not speak, read through fsspec."""
