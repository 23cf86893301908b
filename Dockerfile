# syntax=docker/dockerfile:1.7
# One image for every service and the operator: `tickmesh run SERVICE`, `tickmesh-SERVICE`, `tickmesh-operator`.
# What is in it is made by tools/image/install.sh, whose steps the tests run without a container engine.
ARG PYTHON=3.12.11
ARG RUST=1.90.0
ARG DEBIAN=bookworm

FROM rust:${RUST}-slim-${DEBIAN} AS rust

FROM python:${PYTHON}-slim-${DEBIAN} AS build
SHELL ["/bin/sh", "-eu", "-c"]
# A linker for cargo; the version is the distribution's, the stage is thrown away.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo RUSTUP_HOME=/usr/local/rustup PATH=/usr/local/cargo/bin:$PATH
WORKDIR /src
COPY pyproject.toml README.md CHANGELOG.md ./
COPY tools/image tools/image
COPY pkg pkg
COPY cmd cmd
COPY operators operators
RUN --mount=type=cache,target=/root/.cache tools/image/install.sh /opt/tickmesh

FROM python:${PYTHON}-slim-${DEBIAN} AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tickmesh" \
      org.opencontainers.image.description="High-frequency trading for crypto futures" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build --chown=0:0 /opt/tickmesh /opt/tickmesh
ENV PATH=/opt/tickmesh/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONFAULTHANDLER=1
# Nobody in particular; the file system is read-only in the chart, /tmp is an emptyDir.
USER 65532:65532
WORKDIR /tmp
STOPSIGNAL SIGTERM
ENTRYPOINT ["tickmesh"]
CMD ["--help"]

# `docker build --target sbom --output . .` writes sbom.cdx.json: every Python distribution and every crate.
FROM scratch AS sbom
COPY --from=build /opt/tickmesh/sbom.cdx.json /

# The default target is the image itself.
FROM runtime
