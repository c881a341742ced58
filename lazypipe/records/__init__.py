"""What has happened: a record of every run."""
