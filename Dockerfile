# The images of Penstock: `docker build --target api|control|worker|worker-cpu .`
#   api         API, ledger, migration, commands: no engine inside (tagged penstock-core)
#   control     the same files; starts the control process
#   worker      a GPU worker: vLLM with CUDA; the node brings NVIDIA's driver
#   worker-cpu  a worker without a GPU, with the tiny model
# All packages come from lock files. Each image runs as user 10001 on a read-only root; it can write to
# /tmp, and a worker also to /cache.

# For production pin it to a digest: --build-arg PYTHON_IMAGE=python@sha256:...
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

# --- the files of every image -------------------------------------------------------------
# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS base
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PENSTOCK_API__HOST=0.0.0.0 \
    PENSTOCK_BATCHES__HEALTH_HOST=0.0.0.0 \
    PENSTOCK_BILLING__HEALTH_HOST=0.0.0.0 \
    PENSTOCK_CONTROL__HEALTH_HOST=0.0.0.0 \
    PENSTOCK_WEBHOOKS__HEALTH_HOST=0.0.0.0 \
    PENSTOCK_WORKER__HEALTH_HOST=0.0.0.0
RUN groupadd --gid 10001 penstock \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp penstock \
    && install -d -o 10001 -g 10001 /cache /files
WORKDIR /app

# hadolint ignore=DL3006
FROM ${PYTHON_IMAGE} AS builder
ENV PATH=/opt/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv
WORKDIR /app

FROM builder AS core-builder
COPY requirements/core.lock requirements/
RUN pip install --no-deps -r requirements/core.lock setuptools==80.10.2
COPY . .
RUN pip install --no-deps --no-build-isolation -e . \
    && python -m compileall -q -j 0 /app \
    && penstock --version \
    && rm -rf /opt/venv/lib/python3*/site-packages/pyarrow/include \
        /opt/venv/lib/python3*/site-packages/pyarrow/tests \
    && pip uninstall --yes setuptools pip

# --- API, ledger, control, migration ------------------------------------------------------
FROM base AS core
COPY --from=core-builder /opt/venv /opt/venv
COPY --from=core-builder /app /app
USER 10001:10001
ENTRYPOINT ["penstock"]

FROM core AS control
EXPOSE 8083
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-P", "-m", "core.runtime.probe", "http://127.0.0.1:8083/health"]
CMD ["control"]

FROM core AS api
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-P", "-m", "core.runtime.probe", "http://127.0.0.1:8080/ready"]
CMD ["api"]

# --- workers ------------------------------------------------------------------------------
FROM base AS worker-base
# hadolint ignore=DL3064 # TOKENIZERS_PARALLELISM is no token
ENV HOME=/tmp \
    HF_HOME=/cache/huggingface \
    XDG_CACHE_HOME=/cache \
    VLLM_CACHE_ROOT=/cache/vllm \
    VLLM_CONFIG_ROOT=/cache/vllm-config \
    TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    TOKENIZERS_PARALLELISM=false \
    VLLM_NO_USAGE_STATS=1
VOLUME /cache
EXPOSE 8081
# A large model takes many minutes to load.
HEALTHCHECK --interval=10s --timeout=5s --start-period=1800s --retries=3 \
    CMD ["python", "-P", "-m", "core.runtime.probe", "http://127.0.0.1:8081/ready"]
ENTRYPOINT ["penstock"]
CMD ["worker"]

FROM builder AS worker-cpu-builder
# PyTorch without CUDA is only on PyTorch's own index.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-deps "torch==2.13.0+cpu" --extra-index-url "${TORCH_INDEX}"
COPY requirements/worker-cpu.lock requirements/
RUN pip install --no-deps -r requirements/worker-cpu.lock
COPY . .
RUN pip install --no-deps --no-build-isolation -e . \
    && python -m compileall -q -j 0 /app \
    && penstock --version

FROM worker-base AS worker-cpu
# vLLM's CPU kernels need libnuma.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends libnuma1 \
    && rm -rf /var/lib/apt/lists/*
ENV PENSTOCK_ENGINE__MODEL=/app/models/tiny \
    HF_HUB_OFFLINE=1 \
    OMP_NUM_THREADS=1
COPY --from=worker-cpu-builder /opt/venv /opt/venv
COPY --from=worker-cpu-builder /app /app
USER 10001:10001

FROM builder AS worker-builder
COPY requirements/gpu.lock requirements/
RUN pip install --no-deps -r requirements/gpu.lock
COPY . .
RUN pip install --no-deps --no-build-isolation -e . \
    && python -m compileall -q -j 0 /app \
    && penstock --version

FROM worker-base AS worker
# vLLM compiles kernels for the GPU that it finds.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=worker-builder /opt/venv /opt/venv
COPY --from=worker-builder /app /app
USER 10001:10001
