"""Records of runs: the ledger, audit reports, OpenLineage events."""
