#!/bin/sh
# Makes the root file system that tests run Asterisk on: Debian's unstable suite, which alone has it. It lands in the
# project's cache, named by a hash of this file, so a second run is instant. The path is the last line printed.
#
#   tests/tools/asterisk/rootfs.sh            as root, or as a user with entries in /etc/subuid and /etc/subgid
set -eu
umask 022

cache=${SWITCHBOARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/switchboard}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
rootfs=$cache/asterisk-$(sha256sum "$0" | cut -c1-12)

say() { echo "asterisk: $*" >&2; }
die() { say "$*"; exit 1; }
finished() { [ -e "$rootfs/etc/switchboard-asterisk" ]; }

if finished; then echo "$rootfs"; exit 0; fi
command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: apt-get install mmdebstrap"
mirror=${SWITCHBOARD_MIRROR:-$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
  awk '$2 ~ /^[a-z]+$/ { print $1; exit }')}
[ -n "$mirror" ] || die "apt names no Debian mirror here: set SWITCHBOARD_MIRROR"

mkdir -p "$cache"
exec 9>"$cache/asterisk.lock"
flock -n 9 || { say "another run is making it, waiting"; flock 9; }
if finished; then echo "$rootfs"; exit 0; fi

work=$(mktemp -d "$cache/asterisk-making.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# A mirror's copy of unstable may be older than its Valid-Until; its signature is checked all the same.
mmdebstrap --variant=essential --include=asterisk --keyring="$keyring" --format=tar --skip=output/dev \
  --aptopt='Acquire::Check-Valid-Until "false"' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook='rm -rf "$1"/var/cache/* "$1"/var/log/* "$1"/var/lib/apt/lists/*' \
  sid "$work/rootfs.tar" "deb $mirror sid main" >&2 || die "mmdebstrap failed; its messages stand above"
mkdir -p "$work/rootfs/dev"
tar -xf "$work/rootfs.tar" -C "$work/rootfs" --no-same-owner
chmod -R u+rwX,a+rX "$work/rootfs"
: >"$work/rootfs/etc/switchboard-asterisk"
mv -T "$work/rootfs" "$rootfs"      # atomic: a path that exists is complete
say "$(du -sh "$rootfs" | cut -f1) in"
echo "$rootfs"
