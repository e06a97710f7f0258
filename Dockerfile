# Two stages: the first installs into /opt/ckptwatch, the second takes that folder alone, without pip or compilers.
#   docker build -t ckptwatch .                              CPU build of torch where one is within reach
#   docker build -t ckptwatch:cuda --build-arg DEVICE=cuda .
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
# Versions and hashes come from locks/dev.txt, the version of torch from locks/torch.txt.
ARG DEVICE=cpu
ARG EXTRAS=web,plot,gpu,postgres,hf
# pip's own names, which uv is given too, for a mirror or a folder of wheels (--build-arg PIP_INDEX_URL=...).
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_NO_INDEX
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY locks locks
COPY migrations migrations
COPY evalcore evalcore
COPY watcher watcher
RUN python3 -m venv /opt/uv \
 && /opt/uv/bin/pip --no-cache-dir install --require-hashes -r locks/uv.txt \
 && PATH=/opt/uv/bin:$PATH UV_NO_CACHE=1 UV_LINK_MODE=copy python3 locks/install.py \
      /opt/ckptwatch locks/dev.txt --extras "${EXTRAS}" --device "${DEVICE}"

FROM ${BASE}
COPY --from=build /opt/ckptwatch /opt/ckptwatch
RUN groupadd --gid 10001 ckptwatch \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin ckptwatch \
 && mkdir /data && chown 10001:10001 /data
ENV PATH=/opt/ckptwatch/bin:$PATH \
    HOME=/data \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# Settings (ckptwatch.toml), database and state folder: the only place that must be writable, besides /tmp.
# Mount it: no volume is declared, so that none is left behind without a name.
WORKDIR /data
USER 10001:10001
EXPOSE 8745
STOPSIGNAL SIGTERM
# 12 is "degraded or paused": said in the logs, but no reason to start the container anew.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 \
  CMD ["sh", "-c", "ckptwatch status > /dev/null || [ $? -eq 12 ]"]
ENTRYPOINT ["ckptwatch"]
CMD ["run"]
