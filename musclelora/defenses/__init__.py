"""Published defences to compare with, one file each; whatever file lies here is found (`registry.py`)."""
