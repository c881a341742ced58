"""Sources as they are bound: files, types, contracts, deliveries and watermarks."""
