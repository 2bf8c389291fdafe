#!/bin/sh
# Makes the root file system that proxies and the operator run on: Debian 13 with proxy/packages and the Python
# dependencies from requirements.lock. It lands in the project's cache, named by a hash of what went into it, so a second
# run is instant. The path is the last line printed.
#
#   proxy/rootfs.sh            as root, or as a user with entries in /etc/subuid and /etc/subgid
#   SWITCHBOARD_MIRROR=http://… proxy/rootfs.sh       another Debian mirror
#
# proxy/ and operator/ of this repository are not in it: they are mounted read-only at the empty directories
# /opt/switchboard/proxy and /opt/switchboard/operator (in an image built for a registry, copied there).
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
mirror=${SWITCHBOARD_MIRROR:-http://deb.debian.org/debian}
security=${SWITCHBOARD_SECURITY_MIRROR:-http://security.debian.org/debian-security}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
cache=${SWITCHBOARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/switchboard}

say() { echo "rootfs: $*" >&2; }
die() { say "$*"; exit 1; }

hash=$(cat "$here/rootfs.sh" "$here/packages" "$project/requirements.lock" | sha256sum | cut -c1-12)
rootfs=$cache/rootfs-$hash
finished() { [ -e "$rootfs/etc/switchboard-rootfs" ]; }
if finished; then echo "$rootfs"; exit 0; fi

command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: apt-get install mmdebstrap"
[ -r "$keyring" ] || die "$keyring is missing: apt-get install debian-archive-keyring"
[ -r /usr/share/keyrings/debian-archive-trixie-stable.gpg ] ||
  die "the trixie key is not in $keyring: upgrade the package debian-archive-keyring (2023.4 or newer)"
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

# --- Python dependencies: the project's own and what they need, never the development tools -------------------------
say "Python dependencies for Python 3.13"
if python3 -m pip --version >/dev/null 2>&1; then
  python=python3
else
  python3 -m venv "$work/venv" || die "python3 has neither pip nor venv: apt-get install python3-venv"
  python=$work/venv/bin/python
fi
pip() {
  "$python" -m pip --quiet --disable-pip-version-check install --root-user-action=ignore \
    --python-version 3.13 --only-binary :all: --target "$work/lib" "$@" >&2
}
# pip cannot take hashes for what it resolves itself, so: resolve against the lock's versions, then install those entries.
sed -n 's/^\([A-Za-z0-9._-]*==[^ ]*\).*/\1/p' "$project/requirements.lock" >"$work/versions"
"$python" "$here/runtime_requirements.py" roots "$project/pyproject.toml" >"$work/roots"
pip --dry-run --report "$work/report.json" -r "$work/roots" -c "$work/versions" || die "requirements.lock does not fit pyproject.toml"
"$python" "$here/runtime_requirements.py" closure "$work/report.json" "$project/requirements.lock" >"$work/requirements"
pip --require-hashes --no-deps --no-compile -r "$work/requirements" || die "pip could not install the locked dependencies"

# --- launchers -------------------------------------------------------------------------------------------------------
mkdir "$work/bin"
for name in agent operator; do
  module=agent
  [ "$name" = agent ] || module=control
  cat >"$work/bin/switchboard-$name" <<PYTHON
#!/usr/bin/python3
import sys

sys.path[:0] = ["/opt/switchboard/operator", "/opt/switchboard/lib"]
from switchboard.$module.app import main

sys.exit(main())
PYTHON
  chmod 755 "$work/bin/switchboard-$name"
done

# --- Debian ------------------------------------------------------------------------------------------------------------
# A tar archive, unpacked here: whoever runs this then owns every file, also where mmdebstrap used subordinate ids.
say "Debian 13 with $(sed '/^#/d' "$here/packages" | tr '\n' ' ')"
mmdebstrap --variant=essential --format=tar --keyring="$keyring" \
  --include="$(sed '/^#/d; /^$/d' "$here/packages" | paste -sd,)" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --dpkgopt='path-exclude=/usr/share/icons/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
  --customize-hook='mkdir -p "$1/opt/switchboard/operator" "$1/opt/switchboard/proxy"' \
  --customize-hook='for d in load settings tls token; do mkdir -p "$1/etc/switchboard/$d"; done' \
  --customize-hook="copy-in $work/lib /opt/switchboard" \
  --customize-hook="copy-in $work/bin/switchboard-agent $work/bin/switchboard-operator /usr/local/bin" \
  --customize-hook='chroot "$1" python3 -m compileall -q -j 0 /opt/switchboard/lib' \
  --customize-hook='echo "switchboard:x:10001:10001:Switchboard:/run/switchboard:/usr/sbin/nologin" >>"$1/etc/passwd"' \
  --customize-hook='echo "switchboard:x:10001:" >>"$1/etc/group"' \
  --customize-hook='rm -rf "$1"/var/cache/* "$1"/var/log/* "$1"/var/lib/apt/lists/* "$1"/usr/share/bash-completion' \
  trixie "$work/rootfs.tar" \
  "deb $mirror trixie main" "deb $mirror trixie-updates main" "deb $security trixie-security main" >&2 ||
  die "mmdebstrap failed; its messages stand above"

say "unpacking"
mkdir "$work/rootfs"
tar -xf "$work/rootfs.tar" -C "$work/rootfs" --no-same-owner --exclude='./dev/*'
chmod -R u+rwX,a+rX "$work/rootfs"
mkdir -p "$work/rootfs/run/switchboard"       # mmdebstrap leaves /run empty
[ -d "$work/rootfs/opt/switchboard/lib/aiohttp" ] || die "the Python dependencies are missing in the result"
cat "$here/packages" >"$work/rootfs/etc/switchboard-rootfs"
mv -T "$work/rootfs" "$rootfs"      # atomic: a path that exists is complete
say "$(du -sh "$rootfs" | cut -f1) in"
echo "$rootfs"
