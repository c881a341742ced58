"""Reading query plans: the only room that touches Polars' internals."""
