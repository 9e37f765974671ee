# One image with the one binary of SteadFS, for all its processes.
#
#   docker build -t steadfs .                                              compiles it
#   docker build -t steadfs -f Dockerfile --build-arg BINARY=prebuilt DIR  takes DIR/prebuilt/steadfs (stripped, for Debian 12)
ARG BINARY=compiled

FROM docker.io/library/debian:bookworm-slim AS compiled
ENV STEADFS_CACHE=/cache CARGO_TARGET_DIR=/cache/target CARGO_HOME=/cache/cargo RUSTUP_HOME=/cache/rustup
WORKDIR /src
# The tools and RocksDB change seldom: a layer of their own, which a change of our code leaves alone.
COPY scripts/setup scripts/setup
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
RUN apt-get update -qq && bash scripts/setup build
COPY . .
RUN bash -c 'source scripts/setup build && cargo build --release --locked --bin steadfs \
    && mkdir -p /out && strip -o /out/steadfs "$CARGO_TARGET_DIR/release/steadfs"'

FROM docker.io/library/debian:bookworm-slim AS prebuilt
COPY prebuilt/steadfs /out/steadfs

FROM ${BINARY} AS binary

# Debian without what no process of ours uses: a third of its size.
FROM docker.io/library/debian:bookworm-slim AS system
# Who runs the namenode is the superuser of the file system, by this name.
RUN groupadd --gid 8020 steadfs \
    && useradd --uid 8020 --gid 8020 --home-dir /var/lib/steadfs --shell /usr/sbin/nologin --no-log-init steadfs \
    && install -d -o steadfs -g steadfs /var/lib/steadfs /run/steadfs \
    && rm -rf /usr/share/perl /usr/share/perl5 /usr/share/doc /usr/share/man /usr/share/info /usr/share/locale \
        /usr/share/zoneinfo /usr/lib/*-linux-gnu/perl /usr/lib/*-linux-gnu/perl-base /usr/lib/*-linux-gnu/perl5 \
        /usr/lib/*-linux-gnu/gconv /usr/lib/*-linux-gnu/libperl.so* /usr/bin/perl* /usr/bin/apt* /usr/lib/apt \
        /usr/lib/*-linux-gnu/libapt-p* /var/lib/apt /var/cache /var/log

FROM scratch
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="SteadFS" \
    org.opencontainers.image.description="A distributed file system with HDFS semantics" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
COPY --from=system / /
COPY --from=binary --chmod=755 /out/steadfs /usr/local/bin/steadfs
USER 8020:8020
ENTRYPOINT ["/usr/local/bin/steadfs"]
CMD ["--help"]
