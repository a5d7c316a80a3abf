# The image of the driver and the executors of runs on Kubernetes, or on any cluster of containers.
#
#   docker build -t REGISTRY/curation:0.1.0 .
#   docker build -t REGISTRY/curation:0.1.0-gpu --build-arg EXTRAS=gpu .
#
# The base is Spark's own image, of the version in constraints.txt, with its entry point for Kubernetes.
ARG SPARK=4.3.0
FROM apache/spark:${SPARK}-scala2.13-java21-python3-ubuntu

ARG EXTRAS=cpu
USER root
WORKDIR /opt/curation
# Fonts and display libraries are not needed: OpenCV is the headless one.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY curation ./curation
COPY schemas ./schemas
COPY conf ./conf
COPY jobs ./jobs
# constraints.txt has a hash of every file, so nothing else is installed.
RUN python3 -m venv .venv \
    && .venv/bin/pip install --no-cache-dir "uv>=0.8" \
    && .venv/bin/uv pip install --python .venv/bin/python --no-cache --constraints constraints.txt ".[${EXTRAS}]"
# Executors take Spark from the base, and its Python part must be of the same version.
ARG SPARK
RUN .venv/bin/python -c "import pyspark; assert pyspark.__version__ == '${SPARK}', pyspark.__version__"
ENV PYSPARK_PYTHON=/opt/curation/.venv/bin/python \
    PYSPARK_DRIVER_PYTHON=/opt/curation/.venv/bin/python \
    HF_HUB_OFFLINE=1
# Spark's own user. It runs as no administrator.
USER spark
