#!/bin/sh
# Makes the root file system that proxies and the operator of the embedded cluster run on (debian.sh says what is in it). It
# lands in the project's cache, named by a hash of what went into it, so a second run is instant. The path is the last line
# printed.
#
#   proxy/rootfs.sh            as root, or as a user with entries in /etc/subuid and /etc/subgid
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
cache=${SWITCHBOARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/switchboard}

say() { echo "rootfs: $*" >&2; }
die() { say "$*"; exit 1; }

# The dependencies in pyproject.toml count, its other settings do not.
hash=$({
  cat "$here/debian.sh" "$here/packages" "$project/requirements.lock"
  python3 "$here/runtime_requirements.py" roots "$project/pyproject.toml" operator
} | sha256sum | cut -c1-12)
rootfs=$cache/rootfs-$hash
finished() { [ -e "$rootfs/etc/switchboard-rootfs" ]; }
if finished; then echo "$rootfs"; exit 0; fi

if [ "$(id -u)" != 0 ]; then
  command -v newuidmap >/dev/null || die "newuidmap is missing: apt-get install uidmap"
  grep -q "^\($(id -un)\|$(id -u)\):" /etc/subuid 2>/dev/null ||
    die "no subordinate ids for $(id -un): usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
fi

mkdir -p "$cache"
exec 9>"$cache/rootfs.lock"
flock -n 9 || { say "another run is making it, waiting"; flock 9; }
if finished; then echo "$rootfs"; exit 0; fi

work=$(mktemp -d "$cache/rootfs-making.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

"$here/debian.sh" all "$work/rootfs.tar"
say "unpacking"
mkdir -p "$work/rootfs/dev" "$work/rootfs/run/switchboard"         # mmdebstrap leaves both empty: mount points
tar -xf "$work/rootfs.tar" -C "$work/rootfs" --no-same-owner
chmod -R u+rwX,a+rX "$work/rootfs"
cat "$here/packages" >"$work/rootfs/etc/switchboard-rootfs"
mv -T "$work/rootfs" "$rootfs"      # atomic: a path that exists is complete
say "$(du -sh "$rootfs" | cut -f1) in"
echo "$rootfs"
