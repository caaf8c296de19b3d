"""ZenML steps: each reads artifacts, calls one function of the library, logs, returns."""

import materializers  # noqa: F401  (registers how our artifact types are stored)
