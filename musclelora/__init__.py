"""MuScleLoRA pipelines: the library. It never imports zenml, pipelines, steps or materializers."""

__version__ = "0.1.0"
