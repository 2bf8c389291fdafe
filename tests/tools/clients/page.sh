#!/bin/sh
# Builds the page with a phone that tests open in a browser (page/): JsSIP, at the versions of its lock file, in one script.
# It lands in the project's cache, named by a hash of what goes into it. The path is the last line printed. With
# SWITCHBOARD_MADE set nothing is built: status 1 tells that it is not there.
set -eu
umask 022

here=$(cd "$(dirname "$0")" && pwd)/page
cache=${SWITCHBOARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/switchboard}
page=$cache/page-$(cat "$here"/* | sha256sum | cut -c1-12)

die() { echo "page: $*" >&2; exit 1; }

if [ -e "$page/page.js" ]; then echo "$page"; exit 0; fi
[ -z "${SWITCHBOARD_MADE:-}" ] || exit 1
command -v npm >/dev/null || die "npm is missing: apt-get install npm"

mkdir -p "$cache"
work=$(mktemp -d "$cache/page-making.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM
chmod 755 "$work"
cp "$here"/* "$work"
cd "$work"
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2 || die "npm ci failed; its messages stand above"
npm run --silent build >&2
rm -rf node_modules
[ -e "$page" ] || mv -T "$work" "$page"     # atomic: a path that exists is complete
echo "$page"
