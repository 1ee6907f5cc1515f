# The four images, from one file: docker build --target gateway -t roundtable/gateway .
# They share every layer but the last. Bases are pinned by version; whoever has a registry at hand pins the digest too:
# docker build --build-arg DEBIAN=docker.io/library/debian:13.8-slim@sha256:…
ARG DEBIAN=docker.io/library/debian:13.8-slim

FROM ${DEBIAN} AS python
SHELL ["/bin/sh", "-eu", "-c"]
# hadolint ignore=DL3008 # the release is pinned; within it Debian only mends
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/*


FROM python AS build
# hadolint ignore=DL3008,DL3009 # nothing of this stage stays
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=
WORKDIR /src


FROM build AS page
ENV PATH=/node/bin:$PATH NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
COPY requirements/node.txt requirements/
RUN python3 -m venv /node && /node/bin/pip install --require-hashes -r requirements/node.txt
WORKDIR /src/clients
COPY clients/package.json clients/package-lock.json ./
COPY clients/typescript/package.json typescript/
COPY clients/table/package.json table/
RUN npm ci --loglevel=error --no-audit --no-fund
COPY clients .
RUN npm run --silent build


FROM build AS packages
COPY requirements/runtime.txt requirements/build.txt requirements/
RUN python3 -m venv /build && python3 -m venv --without-pip /app/venv \
 && /build/bin/pip install --require-hashes -r requirements/build.txt \
 && /build/bin/pip --python /app/venv install --require-hashes -r requirements/runtime.txt
COPY libs libs
COPY services services
COPY --from=page /src/services/gateway/src/roundtable/gateway/web/dist services/gateway/src/roundtable/gateway/web/dist
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels ./libs/common ./services/* \
 && /build/bin/pip --python /app/venv install --no-deps /wheels/roundtable_common-*.whl \
 && for service in gateway canvas presence activity; do \
      /build/bin/pip install --no-deps --target "/services/$service" "/wheels/roundtable_$service"-*.whl; \
    done


FROM python AS service
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Roundtable" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.vendor="The Roundtable authors" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=packages /app/venv /app/venv
# Nothing is written at run time: the root may be read-only. Numeric, so that Kubernetes can see that it is not root.
ENV PATH=/app/venv/bin:$PATH PYTHONPATH=/app/service PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    ROUNDTABLE_ENVIRONMENT=production ROUNDTABLE_HTTP_HOST=0.0.0.0 ROUNDTABLE_HTTP_PORT=8080
WORKDIR /app
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=4s --start-period=60s --retries=3 \
  CMD ["python", "-c", "import os, urllib.request as u; u.urlopen(f'http://127.0.0.1:{os.environ[\"ROUNDTABLE_HTTP_PORT\"]}/healthz', timeout=3)"]


FROM service AS canvas
LABEL org.opencontainers.image.description="The canvas service: strokes, undo, clearing"
COPY --from=packages /services/canvas /app/service
ENTRYPOINT ["python", "-m", "roundtable.canvas"]

FROM service AS presence
LABEL org.opencontainers.image.description="The presence service: who is here, and who has gone"
COPY --from=packages /services/presence /app/service
ENTRYPOINT ["python", "-m", "roundtable.presence"]

FROM service AS activity
LABEL org.opencontainers.image.description="The activity service: chat, dice, turns"
COPY --from=packages /services/activity /app/service
ENTRYPOINT ["python", "-m", "roundtable.activity"]

FROM service AS gateway
LABEL org.opencontainers.image.description="The gateway: WebSocket, SSE and long poll, and the table page"
COPY --from=packages /services/gateway /app/service
ENTRYPOINT ["python", "-m", "roundtable.gateway"]
