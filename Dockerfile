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
RUN cargo build --locked --release --bin fanfare && mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /source/target/release/fanfare /fanfare
COPY --from=build --chown=nonroot:nonroot /data /data
ENV FANFARE_SERVER_LISTEN=0.0.0.0:8080 FANFARE_HISTORY_PATH=/data
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/fanfare"]
