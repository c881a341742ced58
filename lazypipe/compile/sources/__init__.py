"""Sources of a definition, bound: files, types, contracts, deliveries and watermarks."""
