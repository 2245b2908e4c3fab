# The host itself as an image. It drives the engine whose socket it is given, as an ordinary user:
#
#   docker build -t berth .
#   docker run --rm --init -v /var/run/docker.sock:/var/run/docker.sock \
#     --group-add "$(stat -c %g /var/run/docker.sock)" -v berth:/var/lib/berth berth doctor
#
# Whoever may use the engine's socket is root on the engine's machine, whatever user this is: run only the host in it.
# Without a registry: --build-arg BASE=berth-base:latest, which `npm run setup` makes of Debian's packages.
ARG BASE=node:22.23.3-bookworm-slim

FROM ${BASE} AS build
LABEL berth.image=host
USER root
WORKDIR /opt/berth
COPY . .
# Installs the locked packages first, unless the context brings them.
RUN node scripts/build.js && chmod +x dist/cli/main.js && npm prune --omit=dev --ignore-scripts --no-audit --no-fund

FROM ${BASE}
LABEL berth.image=host
USER root
COPY --from=build /opt/berth/package.json /opt/berth/
COPY --from=build /opt/berth/node_modules /opt/berth/node_modules
COPY --from=build /opt/berth/images /opt/berth/images
COPY --from=build /opt/berth/dist /opt/berth/dist
RUN ln -s /opt/berth/dist/cli/main.js /usr/local/bin/berth && install -d -o 1000 -g 1000 -m 700 /var/lib/berth
ENV NODE_ENV=production BERTH_STATE_DIR=/var/lib/berth
VOLUME /var/lib/berth
# The user of id 1000 is `node` or `berth`, by the base.
USER 1000:1000
WORKDIR /var/lib/berth
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s CMD ["berth", "doctor"]
ENTRYPOINT ["berth"]
CMD ["--help"]
