#!/bin/sh
# The last step of both ways to make the image, run inside its root: the user, its folders, and away with the rest.
set -eu

# The official Node image brings a user of its own, who has the id 1000.
if getent passwd node >/dev/null; then userdel --remove node 2>/dev/null; fi
groupadd --gid 1000 berth
useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash berth
install -d -o berth -g berth /workspace

# Without a compiler nobody needs Node's headers; Yarn and Corepack would only try to download themselves.
rm -rf /usr/local/include/node /usr/local/lib/node_modules/corepack /opt/yarn* /usr/local/bin/corepack \
  /usr/local/bin/yarn /usr/local/bin/yarnpkg /usr/local/bin/pnpm /usr/local/bin/pnpx /usr/local/bin/docker-entrypoint.sh
rm -rf /usr/share/doc/* /usr/share/man/* /usr/share/info/* /usr/share/locale/* /var/lib/apt/lists/* \
  /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log /tmp/base
