"""Metrics, intervals and the robustness report."""
