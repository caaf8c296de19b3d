"""Great Expectations suites, quarantine and the validation report."""
