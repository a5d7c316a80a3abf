# The image of the driver and the executors of runs on Kubernetes, or on any cluster of containers.
#
#   docker build -t REGISTRY/curation:0.1.0 .
#   docker build -t REGISTRY/curation:0.1.0-gpu --build-arg EXTRAS=gpu .

# Spark's own image, for Spark and its entry point. Its Python is too old. As in constraints.txt:
ARG SPARK=4.3.0
FROM apache/spark:${SPARK} AS spark

FROM python:3.12-slim-bookworm
ARG SPARK
ARG EXTRAS=cpu
# Debian offers one version of each, and takes older ones away.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless procps tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 185 --gid 0 --no-create-home spark
COPY --from=spark /opt/spark /opt/spark
COPY --from=spark /opt/entrypoint.sh /opt/entrypoint.sh
WORKDIR /opt/curation
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY curation ./curation
COPY schemas ./schemas
COPY conf ./conf
COPY jobs ./jobs
COPY airflow_dags ./airflow_dags
COPY quickstart ./quickstart
COPY docs ./docs
# The versions are those of constraints.txt. Spark and its Python part must be of the same version.
RUN python -m venv .venv \
    && .venv/bin/pip install --no-cache-dir uv==0.13.8 \
    && .venv/bin/uv pip install --python .venv/bin/python --no-cache --constraints constraints.txt ".[${EXTRAS}]" \
    && .venv/bin/python -c "import pyspark; assert pyspark.__version__ == '${SPARK}', pyspark.__version__"
ENV SPARK_HOME=/opt/spark \
    JAVA_HOME=/usr/lib/jvm/java-17-openjdk-amd64 \
    PYSPARK_PYTHON=/opt/curation/.venv/bin/python \
    PYSPARK_DRIVER_PYTHON=/opt/curation/.venv/bin/python
# The user of Spark's own image, who is no administrator.
USER 185
ENTRYPOINT ["/opt/entrypoint.sh"]
