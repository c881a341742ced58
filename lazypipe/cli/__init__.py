"""The commands of the command line, a file for those about one thing."""
