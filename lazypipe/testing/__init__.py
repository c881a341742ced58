"""Helpers for testing pipelines: synthetic rows with known faults, deliveries, and a file system that fails on demand."""

from lazypipe.testing.faults import Faults, faulty
from lazypipe.testing.synthetic import make_orders, order_rules, violate, write_deliveries

__all__ = ["Faults", "faulty", "make_orders", "order_rules", "violate", "write_deliveries"]
