# The sidecar's image: an interpreter, the packages it runs on, and nothing else. No shell, no package manager.
#
# BASE_IMAGE brings Python 3.11 or later with venv, and a C compiler for the modules that carry traffic (glibc; the
# official python images that are not slim, or Debian with python3-venv, python3-dev, gcc and libc6-dev). What runs is
# copied out of it onto an empty file system, so that base tools do not come along.
#
# A release names it by digest: --build-arg BASE_IMAGE=NAME@sha256:...
#
#   docker build --build-arg VERSION=X.Y.Z --build-arg REVISION="$(git rev-parse HEAD)" -t websocket-exporter:X.Y.Z .

ARG BASE_IMAGE=python:3.11

FROM ${BASE_IMAGE} AS build
WORKDIR /src
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/websocket-exporter
COPY requirements/run.txt requirements/run.txt
RUN /build/bin/pip --python /opt/websocket-exporter/bin/python install \
    --no-cache-dir --no-compile --require-hashes --requirement requirements/run.txt
# The compiler looks at types, those of the packages included.
COPY requirements/build.txt requirements/build.txt
RUN /build/bin/pip install --no-cache-dir --require-hashes \
    --requirement requirements/run.txt --requirement requirements/build.txt
COPY pyproject.toml setup.py README.md LICENSE ./
COPY exporter exporter
COPY grafana grafana
RUN WEBSOCKET_EXPORTER_COMPILE=1 /build/bin/pip wheel \
        --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /build/bin/pip --python /opt/websocket-exporter/bin/python install --no-cache-dir --no-compile --no-deps /wheel/*.whl
COPY deploy/image/rootfs.py deploy/image/rootfs.py
RUN /opt/websocket-exporter/bin/python deploy/image/rootfs.py /rootfs /opt/websocket-exporter
# The bill of materials (CycloneDX) of what is in there, made by tools that are not.
COPY requirements/audit.txt requirements/audit.txt
RUN python3 -m venv --without-pip /audit \
    && /build/bin/pip --python /audit/bin/python install --no-cache-dir --no-compile --require-hashes --requirement requirements/audit.txt \
    && mkdir -p /rootfs/usr/share/sbom \
    && /audit/bin/cyclonedx-py environment --output-reproducible --of JSON \
        -o /rootfs/usr/share/sbom/websocket-exporter.cdx.json /opt/websocket-exporter/bin/python

FROM scratch
COPY --from=build /rootfs /
ENV PATH=/opt/websocket-exporter/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="websocket-exporter" \
      org.opencontainers.image.description="A sidecar proxy that counts why WebSocket connections end, for Prometheus" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/websocket-exporter/websocket-exporter" \
      org.opencontainers.image.documentation="https://github.com/websocket-exporter/websocket-exporter/blob/main/docs/README.md" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# A number, so that runAsNonRoot can be checked without looking into the image.
USER 65532:65532
EXPOSE 10010 10011
ENTRYPOINT ["/opt/websocket-exporter/bin/websocket-exporter"]
CMD ["--help"]
