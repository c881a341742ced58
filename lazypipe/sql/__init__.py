"""SQL text to Polars expressions and frames, bound against a schema.

The dialect is that of Polars (``pl.sql_expr``). Five things are added, all on the token stream, so that strings,
quoted names and comments are never touched:

* ``:name`` is a parameter. Its value becomes ONE literal token with its type (``DATE '2013-01-01'``), so that no value,
  whatever it contains, can change the shape of the statement.
* ``date_trunc('hour', x)`` needs the type of ``x``, which ``pl.sql_expr`` does not know: it is bound here.
* ``now()``, ``current_date`` … are refused: a pipeline reads no clock that its caller cannot pass in (``:now``).
* functions that open files (``read_csv`` …) are refused: what a pipeline reads is declared as a source.
* what Polars takes for something else than SQL says is written in other words (``dialect.py``).
"""
