#!/bin/sh
# The one recipe for the root file systems that Switchboard runs on: Debian 13 with the packages that proxy/packages names
# for an image, and that image's Python dependencies from requirements.lock. As a tar archive, so that whoever unpacks it owns
# the files, also where mmdebstrap used subordinate ids.
#
#   proxy/debian.sh proxy|operator TAR     what that image is made of
#   proxy/debian.sh all TAR                both in one, for the embedded cluster
#   proxy/debian.sh base TAR               Debian with apt and nothing of ours: what images are built on (Dockerfile's BASE)
#
# The mirrors are this machine's own, as apt knows them; where it is not a Debian one, SWITCHBOARD_MIRROR and
# SWITCHBOARD_SECURITY_MIRROR name others. proxy/ and operator/ of this repository are not in the result: an image gets
# them from the Dockerfile, the embedded cluster mounts them at the empty directories in /opt/switchboard.
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)
project=$(dirname "$here")
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

say() { echo "debian: $*" >&2; }
die() { say "$*"; exit 1; }

[ $# = 2 ] || die "usage: proxy/debian.sh proxy|operator|all|base TAR"
image=$1 tar=$2
case $image in
  proxy) extras='' ;;
  operator | all) extras=operator ;;
  base) ;;
  *) die "$image is no image: proxy, operator, all or base" ;;
esac

command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: apt-get install mmdebstrap"
[ -r "$keyring" ] || die "$keyring is missing: apt-get install debian-archive-keyring"
[ -r /usr/share/keyrings/debian-archive-trixie-stable.gpg ] ||
  die "the trixie key is not in $keyring: upgrade the package debian-archive-keyring (2023.4 or newer)"

# site PATTERN: where this machine gets the Debian suites from whose name fits
site() {
  apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    awk -v wanted="$1" '$2 ~ wanted { print $1; exit }'
}
mirror=${SWITCHBOARD_MIRROR:-$(site '^[a-z]+$')}
security=${SWITCHBOARD_SECURITY_MIRROR:-$(site '^[a-z]+-security$')}
[ -n "$mirror" ] && [ -n "$security" ] ||
  die "apt names no Debian mirror here: set SWITCHBOARD_MIRROR and SWITCHBOARD_SECURITY_MIRROR"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# debian OPTION...: Debian without documentation, translations, caches and set-user-id programs
debian() {
  mmdebstrap --format=tar --keyring="$keyring" --skip=output/dev \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/icons/*' --dpkgopt='path-exclude=/usr/share/lintian/*' "$@" \
    --customize-hook='rm -rf "$1"/var/cache/* "$1"/var/log/* "$1"/var/lib/apt/lists/* "$1"/usr/share/bash-completion' \
    --customize-hook='find "$1" -xdev -type f -perm /6000 -exec chmod a-s {} +' \
    trixie "$tar" \
    "deb $mirror trixie main" "deb $mirror trixie-updates main" "deb $security trixie-security main" >&2 ||
    die "mmdebstrap failed; its messages stand above"
}

if [ "$image" = base ]; then
  say "Debian 13 with apt"
  debian --variant=apt
  exit 0
fi

# --- Python dependencies: the image's own and what they need, never the development tools ---------------------------
say "Python dependencies for Python 3.13"
if python3 -m pip --version >/dev/null 2>&1; then
  python=python3
else
  python3 -m venv "$work/venv" || die "python3 has neither pip nor venv: apt-get install python3-venv"
  python=$work/venv/bin/python
fi
pip() {
  "$python" -m pip --quiet --disable-pip-version-check install --root-user-action=ignore --no-cache-dir \
    --python-version 3.13 --only-binary :all: --target "$work/lib" "$@" >&2
}
# pip cannot take hashes for what it resolves itself, so: resolve against the lock's versions, then install those entries.
sed -n 's/^\([A-Za-z0-9._-]*==[^ ]*\).*/\1/p' "$project/requirements.lock" >"$work/versions"
# shellcheck disable=SC2086 -- none or one word
"$python" "$here/runtime_requirements.py" roots "$project/pyproject.toml" $extras >"$work/roots"
pip --dry-run --report "$work/report.json" -r "$work/roots" -c "$work/versions" || die "requirements.lock does not fit pyproject.toml"
"$python" "$here/runtime_requirements.py" closure "$work/report.json" "$project/requirements.lock" >"$work/requirements"
pip --require-hashes --no-deps --no-compile -r "$work/requirements" || die "pip could not install the locked dependencies"
[ -d "$work/lib/aiohttp" ] || die "the Python dependencies are missing in the result"

# --- launchers -------------------------------------------------------------------------------------------------------
mkdir "$work/bin"
launcher() { # launcher NAME MODULE
  cat >"$work/bin/switchboard-$1" <<PYTHON
#!/usr/bin/python3
import sys

sys.path[:0] = ["/opt/switchboard/operator", "/opt/switchboard/lib"]
from switchboard.$2.app import main

sys.exit(main())
PYTHON
  chmod 755 "$work/bin/switchboard-$1"
}
[ "$image" = operator ] || launcher agent agent
[ "$image" = proxy ] || launcher operator control

# --- Debian ------------------------------------------------------------------------------------------------------------
packages=$(awk -v image="$image" '/^[^#]/ && (image == "all" || $0 ~ " " image "( |$)") { print $1 }' "$here/packages" | paste -sd,)
say "Debian 13 with $packages"
debian --variant=essential --include="$packages" \
  --customize-hook='mkdir -p "$1/opt/switchboard/operator" "$1/opt/switchboard/proxy"' \
  --customize-hook='for d in load settings tls token listen; do mkdir -p "$1/etc/switchboard/$d"; done' \
  --customize-hook="copy-in $work/lib /opt/switchboard" \
  --customize-hook="copy-in $work/bin /usr/local" \
  --customize-hook='chroot "$1" python3 -m compileall -q -j 0 /opt/switchboard/lib' \
  --customize-hook='echo "switchboard:x:10001:10001:Switchboard:/run/switchboard:/usr/sbin/nologin" >>"$1/etc/passwd"' \
  --customize-hook='echo "switchboard:x:10001:" >>"$1/etc/group"'
