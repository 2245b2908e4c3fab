#!/bin/sh
# Makes the image's root from Debian's packages and writes it to standard output as a tar archive.
# Usage: from-debian.sh FOLDER, where FOLDER holds what goes to /usr/local: Node and npm. Needs mmdebstrap and root.
set -eu
recipe=$(cd "$(dirname "$0")" && pwd)
export recipe usr_local="$1"
# mmdebstrap mounts parts of /dev, /proc and /sys in its root. In namespaces of its own nobody else sees these mounts, and
# whoever kills this process (exec: it is unshare) ends all of it, mounts too: what is left are plain files.
exec unshare --mount --pid --fork --kill-child --mount-proc mmdebstrap --variant=minbase --format=tar \
  --include="$(tr '\n' ' ' < "$recipe/packages.txt")" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='cp -rP --preserve=mode,timestamps "$usr_local/." "$1/usr/local/"' \
  --customize-hook='mkdir -p "$1/tmp/base" && cp "$recipe/finish.sh" "$1/tmp/base/" && chroot "$1" sh /tmp/base/finish.sh' \
  --customize-hook='rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap" "$1/etc/dpkg/dpkg.cfg.d/99mmdebstrap"' \
  bookworm -
