# The broker alone, in an image without a shell, as a user without rights.
#
#   docker build -t fanfare .
#   docker run --rm -p 127.0.0.1:8080:8080 -v fanfare:/data \
#       -e FANFARE_AUTH_API_KEYS=a-key-of-sixteen-bytes-or-more fanfare

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# What docs/building.md lists, such as `otlp`.
ARG FEATURES=
RUN cargo build --locked --release --bin fanfare --features "$FEATURES" && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /source/target/release/fanfare /fanfare
COPY --from=build --chown=nonroot:nonroot /data /data
ENV FANFARE_SERVER_LISTEN=0.0.0.0:8080 FANFARE_HISTORY_PATH=/data
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
# Whether it is alive, which is what a supervisor may restart it for; --ready asks whether it can do its job, too. It goes by
# the same variables and file as the broker, so configure by these and not by arguments. With TLS and without
# FANFARE_SERVER_INTERNAL_LISTEN, set another check: /fanfare health --url https://NAME.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/fanfare", "health"]
ENTRYPOINT ["/fanfare"]
