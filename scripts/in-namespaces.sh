#!/usr/bin/env bash
# in-namespaces.sh cargo ...: runs cargo so that the programs it starts may make network
# namespaces: as they are for root or where users may have namespaces of their own, else
# through sudo. Cargo itself never runs under sudo: what it builds belongs to the user.
set -euo pipefail

own_namespaces() {
  unshare --user --map-root-user --mount --net --uts --pid --fork \
    sh -c 'mount -t proc proc /proc && mount -t tmpfs tmpfs /run' 2>/dev/null
}

use_sudo() {
  command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; }; }
}

if [ "$(id -u)" -ne 0 ] && ! own_namespaces && use_sudo; then
  triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
  export "CARGO_TARGET_${triple}_RUNNER=sudo --preserve-env=CI,VIPSEC_BIN,NO_COLOR"
fi
exec "$@"
