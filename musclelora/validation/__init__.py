"""Great Expectations suites, quarantine and the validation report."""

import os

# Great Expectations reads it when it is imported: importing this package must contact nobody.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
