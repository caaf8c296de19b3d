# The image of a step on Kubernetes or Kubeflow. Not built by us: there was no Docker.
#   docker build -t REGISTRY/musclelora:0.1.0 .
#   docker build -t REGISTRY/musclelora:0.1.0-gpu --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu128 .
FROM python:3.11-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 ZENML_ANALYTICS_OPT_IN=false GX_ANALYTICS_ENABLED=false MLFLOW_DISABLE_TELEMETRY=true \
    TOKENIZERS_PARALLELISM=false

WORKDIR /app
COPY constraints.txt ./
RUN pip install torch==2.13.0 --index-url ${TORCH_INDEX}
COPY pyproject.toml README.md LICENSE ./
COPY musclelora musclelora
COPY pipelines pipelines
COPY steps steps
COPY materializers materializers
# `offline` brings the default backbone inside the image; the S3 client is for an artifact store there.
RUN pip install -c constraints.txt -e ".[offline]" s3fs && pip check

RUN useradd --create-home musclelora && chown -R musclelora /app
USER musclelora
