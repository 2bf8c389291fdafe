# Sourced by what makes a root file system. It lands in the project's cache, named by a hash of what went into it, so that a
# second run is instant; the path is the last line printed.
#
#   found NAME HASH     prints the path and ends the script where it is there; else $work is a directory for making it
#   keep [DIRECTORY]    unpacks $work/rootfs.tar, with that mount point in it, and puts it in its place
#
# With SWITCHBOARD_MADE set nothing is made: status 1 tells that it is not there.
cache=${SWITCHBOARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/switchboard}

say() { echo "$name: $*" >&2; }
die() { say "$*"; exit 1; }
finished() { [ -e "$rootfs/etc/switchboard-rootfs" ]; }

found() {
  name=$1 rootfs=$cache/$1-$2
  if finished; then echo "$rootfs"; exit 0; fi
  [ -z "${SWITCHBOARD_MADE:-}" ] || exit 1
  mkdir -p "$cache"
  exec 9>"$cache/$name.lock"
  flock -n 9 || { say "another run is making it, waiting"; flock 9; }
  if finished; then echo "$rootfs"; exit 0; fi
  work=$(mktemp -d "$cache/$name-making.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 1' INT TERM
}

keep() {
  say "unpacking"
  mkdir -p "$work/rootfs/dev" "$work/rootfs${1:-}"      # mmdebstrap leaves both empty
  tar -xf "$work/rootfs.tar" -C "$work/rootfs" --no-same-owner
  chmod -R u+rwX,a+rX "$work/rootfs"
  : >"$work/rootfs/etc/switchboard-rootfs"
  mv -T "$work/rootfs" "$rootfs"                        # atomic: a path that exists is complete
  say "$(du -sh "$rootfs" | cut -f1) in"
  echo "$rootfs"
}
