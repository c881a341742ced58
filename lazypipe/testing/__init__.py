"""Helpers for tests of pipelines."""
