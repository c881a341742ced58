"""Data contracts of other tools (ODCS, dbt, Great Expectations), imported as rules and columns, and exported.

Examples
--------
>>> from lazypipe import contracts
>>> contract = contracts.from_dbt("{models: [{name: orders, columns: [{name: id, data_tests: [unique, not_null]}]}]}")
>>> contract.rules["orders"]
({'unique': 'id'}, {'not_null': 'id'})
>>> contracts.from_odcs(contracts.to_odcs(contract)).rules["orders"]
({'not_null': 'id'}, {'unique': 'id'})
"""

from lazypipe.contracts.contract import Column, Contract, Finding
from lazypipe.contracts.dbt import from_dbt
from lazypipe.contracts.gx import from_gx
from lazypipe.contracts.odcs import from_odcs
from lazypipe.contracts.odcs_export import to_odcs

__all__ = ["Column", "Contract", "Finding", "from_dbt", "from_gx", "from_odcs", "to_odcs"]
