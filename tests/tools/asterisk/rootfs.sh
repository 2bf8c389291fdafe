#!/bin/sh
# Makes the root file system that tests run Asterisk on, with its H.323 channel: Debian's unstable suite, which alone has
# them. The path is the last line printed.
#
#   tests/tools/asterisk/rootfs.sh            as root, or as a user with entries in /etc/subuid and /etc/subgid
set -eu
umask 022

. "$(dirname "$0")/../../../scripts/rootfs.sh"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

found asterisk "$(sha256sum "$0" | cut -c1-12)"

command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: apt-get install mmdebstrap"
mirror=${SWITCHBOARD_MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
  awk '$2 ~ /^[a-z]+$/ { print $1; exit }')}
[ -n "$mirror" ] || die "apt names no Debian mirror here: set SWITCHBOARD_MIRROR"

# A mirror's copy of unstable may be older than its Valid-Until; its signature is checked all the same.
mmdebstrap --variant=essential --include=asterisk,asterisk-ooh323 --keyring="$keyring" --format=tar --skip=output/dev \
  --aptopt='Acquire::Check-Valid-Until "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='rm -rf "$1"/var/cache/* "$1"/var/log/* "$1"/var/lib/apt/lists/*' \
  sid "$work/rootfs.tar" "deb $mirror sid main" >&2 || die "mmdebstrap failed; its messages stand above"
keep
