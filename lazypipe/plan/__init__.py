"""Reading plans: the one room that touches what Polars keeps to itself."""
