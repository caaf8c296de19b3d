"""Records, readers, splits and the trusted set."""
