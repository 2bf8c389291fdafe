#!/bin/sh
# Makes the root file system that proxies and the operator of the embedded cluster run on (debian.sh says what is in it). The
# path is the last line printed.
#
#   proxy/rootfs.sh            as root, or as a user with entries in /etc/subuid and /etc/subgid
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
. "$project/scripts/rootfs.sh"

# The dependencies in pyproject.toml count, its other settings do not.
found rootfs "$({
  cat "$here/debian.sh" "$here/packages" "$project/requirements.lock"
  python3 "$here/runtime_requirements.py" roots "$project/pyproject.toml" operator
} | sha256sum | cut -c1-12)"

if [ "$(id -u)" != 0 ]; then
  command -v newuidmap >/dev/null || die "newuidmap is missing: apt-get install uidmap"
  grep -q "^\($(id -un)\|$(id -u)\):" /etc/subuid 2>/dev/null ||
    die "no subordinate ids for $(id -un): usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $(id -un)"
fi

"$here/debian.sh" all "$work/rootfs.tar"
keep /run/switchboard
