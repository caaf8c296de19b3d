"""Policy, decision and the MLflow registry."""
