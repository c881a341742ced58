"""Helpers for tests of pipelines: made-up rows with known faults, deliveries of them, and a file system that fails when it is told to."""

from lazypipe.testing.faults import Faults, faulty
from lazypipe.testing.synthetic import make_orders, order_rules, violate, write_deliveries

__all__ = ["Faults", "faulty", "make_orders", "order_rules", "violate", "write_deliveries"]
