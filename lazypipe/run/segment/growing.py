"""Existing rows of an output whose columns have been added or widened since."""

from __future__ import annotations

import polars as pl

from lazypipe.compile.sources.contract import read_contract
from lazypipe.spec.model import Output
from lazypipe.storage.datasets.dataset import Dataset
from lazypipe.storage.datasets.log import Commit
from lazypipe.storage.shape import grown

__all__ = ["with_columns_of_now"]


def with_columns_of_now(dataset: Dataset, commit: Commit, schema: pl.Schema, output: Output) -> pl.LazyFrame:
    """Return the rows of a commit with the columns that the contract of its output has let come, and grow."""
    names = {name: column.alias for name, column in read_contract(output.contract, ()).columns.items()}
    rows = grown(dataset.scan(commit), commit.schema, schema, names)
    assert rows is not None, "the compiler refuses columns that do not hold the rows that are there"
    return rows
