#!/bin/sh
# Makes a root file system with programs of others, which tests run against ours: on any host the same versions. The path is
# the last line printed.
#
#   tests/tools/rootfs.sh asterisk|clients      as root, or as a user with entries in /etc/subuid and /etc/subgid
set -eu
umask 022

name=${1:-}
case $name in
  asterisk) suite=sid packages=asterisk,asterisk-ooh323 ;;     # no other suite has them
  clients) suite=trixie packages=baresip-core,chromium-headless-shell,linphone-cli ;;
  *) echo "rootfs: not asterisk or clients: $name" >&2; exit 2 ;;
esac

. "$(dirname "$0")/../../scripts/rootfs.sh"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

found "$name" "$(sha256sum "$0" | cut -c1-12)"

command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: apt-get install mmdebstrap"
mirror=${SWITCHBOARD_MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
  awk '$2 ~ /^[a-z]+$/ { print $1; exit }')}
[ -n "$mirror" ] || die "apt names no Debian mirror here: set SWITCHBOARD_MIRROR"

# A mirror's copy of a suite may be older than its Valid-Until; its signature is checked all the same.
mmdebstrap --variant=essential --include="$packages" --keyring="$keyring" --format=tar --skip=output/dev \
  --aptopt='Acquire::Check-Valid-Until "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='rm -rf "$1"/var/cache/* "$1"/var/log/* "$1"/var/lib/apt/lists/*' \
  "$suite" "$work/rootfs.tar" "deb $mirror $suite main" >&2 || die "mmdebstrap failed; its messages stand above"
keep
