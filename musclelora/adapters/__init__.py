"""The radial scaling layer, where it goes, and folding into plain weights."""
