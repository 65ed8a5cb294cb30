# One image for each service:  docker build --build-arg SERVICE=downloader .
# SERVICE: collector, downloader, uploader, exporter, origin, console; or cli, the command line.
ARG PYTHON_IMAGE=python:3.11-slim

# What runs: Python, without a tool to install anything.
FROM ${PYTHON_IMAGE} AS base
RUN python3 -m pip uninstall --yes --quiet --root-user-action=ignore wheel setuptools pip >/dev/null 2>&1; \
    rm -rf /usr/lib/python3*/ensurepip /usr/local/lib/python3*/ensurepip; \
    if cd /usr/lib/python3/dist-packages 2>/dev/null; then \
    rm -rf pip* setuptools* wheel* pkg_resources* _distutils_hack distutils-precedence.pth; fi

# Where the packages are put together. Libraries first, from their hashes: a change of our code installs none anew.
FROM ${PYTHON_IMAGE} AS common
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY deploy/docker/requirements.py requirements.lock ./
COPY libs/common/pyproject.toml libs/common/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 requirements.py libraries music-cloud-common >common.txt \
 && python3 requirements.py libraries hatchling >hatchling.txt \
 && python3 -m pip install --quiet --no-deps --require-hashes --target /opt/common -r common.txt \
 && python3 -m pip install --quiet --no-deps --require-hashes --target /opt/hatchling -r hatchling.txt

FROM common AS service
ARG SERVICE
COPY libs/cli/pyproject.toml libs/cli/
COPY libs/mirror/pyproject.toml libs/mirror/
COPY libs/sources/pyproject.toml libs/sources/
COPY services/collector/pyproject.toml services/collector/
COPY services/console/pyproject.toml services/console/
COPY services/downloader/pyproject.toml services/downloader/
COPY services/exporter/pyproject.toml services/exporter/
COPY services/origin/pyproject.toml services/origin/
COPY services/uploader/pyproject.toml services/uploader/
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 requirements.py libraries "music-cloud-$SERVICE" --without music-cloud-common >extra.txt \
 && mkdir -p /opt/extra \
 && python3 -m pip install --quiet --no-deps --require-hashes --target /opt/extra -r extra.txt
COPY libs libs
COPY services services
COPY deploy/docker/init.sh ./
RUN PYTHONPATH=/opt/hatchling python3 -m pip install --quiet --no-deps --no-index --no-build-isolation \
    --target /opt/service $(python3 requirements.py members "music-cloud-$SERVICE") \
 && PYTHONPATH=/opt/service:/opt/extra:/opt/common python3 -m pip check \
 && if [ "$SERVICE" = cli ]; then install -D init.sh /opt/service/bin/init; fi

FROM base
ARG SERVICE
ARG VERSION=0.1.0
ARG REVISION=unknown
COPY deploy/docker/entrypoint.sh /usr/local/bin/entrypoint
COPY deploy/docker/healthcheck.py /usr/local/bin/healthcheck
COPY --from=common /opt/common /opt/common
COPY --from=service /opt/extra /opt/extra
COPY --from=service /opt/service /opt/service
ENV SERVICE=${SERVICE} MUSIC_CLOUD_CONTAINER=1 ROOT_DIR=/data HEALTH_PORT=8430 \
    PYTHONPATH=/opt/service:/opt/extra:/opt/common PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LANG=C.UTF-8 \
    PATH=/opt/service/bin:/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin
# Settings are read from music-cloud.env in the working directory.
WORKDIR /config
USER 1000:1000
ENTRYPOINT ["entrypoint"]
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python3", "-I", "-S", "/usr/local/bin/healthcheck"]
LABEL org.opencontainers.image.title="music-cloud-${SERVICE}" \
      org.opencontainers.image.description="Music Cloud: ${SERVICE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
