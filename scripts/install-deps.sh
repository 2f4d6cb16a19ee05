#!/usr/bin/env bash
# Installs what the demo, the tests and the build need on Debian or Ubuntu, and nothing that
# is there already. Elsewhere it names what is missing and goes on: the scenarios then say
# SKIPPED with the reason.
set -euo pipefail

# package : how to see that it is there
wanted=(
  "gcc:gcc"                                    # linker for Rust
  "libc6-dev:/usr/include/stdlib.h"
  "iproute2:ip"                                # the lab's networks
  "util-linux:unshare"
  "iputils-ping:ping"
  "nftables:nft"                               # NAT and packet loss
  "ethtool:ethtool"                            # a WAN without segmentation offload
  "tshark:tshark"                              # captures, and an independent reader of them
  "faketime:faketime"                          # a node whose clock is a year off
  "keepalived:keepalived"                      # what our pair is compared with
  "strongswan-charon:/usr/lib/ipsec/charon"    # the peer
  "strongswan-swanctl:swanctl"
  "libstrongswan-standard-plugins:/usr/lib/ipsec/plugins/libstrongswan-openssl.so"
  "libstrongswan-extra-plugins:/usr/lib/ipsec/plugins/libstrongswan-curve25519.so"
  "libcharon-extra-plugins:/usr/lib/ipsec/plugins/libstrongswan-kernel-libipsec.so"
)
# Intel's IPsec library is for x86-64: the fastest AES-GCM with VAES. Its package has the
# number of its interface in its name, and a distribution has one of them.
[ "$(uname -m)" = x86_64 ] &&
  wanted+=("libipsec-mb2|libipsec-mb1:/usr/lib/x86_64-linux-gnu/libIPSec_MB.so.[12]")
# Only libFuzzer's run-time is C++.
[ "${1:-}" = "--fuzz" ] && wanted+=("g++:g++")

PATH=$PATH:/usr/sbin:/sbin
missing=()
for line in "${wanted[@]}"; do
  package=${line%%:*} sign=${line#*:}
  case $sign in
    /*) compgen -G "$sign" >/dev/null || missing+=("$package") ;;
    *) command -v "$sign" >/dev/null || missing+=("$package") ;;
  esac
done
[ ${#missing[@]} -eq 0 ] && exit 0

say() { printf 'deps: %s\n' "$*" >&2; }

if ! command -v apt-get >/dev/null; then
  say "this is not Debian or Ubuntu. Please install what they call: ${missing[*]}"
  exit 0
fi
root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    say "not root and no sudo. Please install: ${missing[*]}"
    exit 0
  fi
  # Without a terminal nobody can type a password.
  if ! sudo -n true 2>/dev/null && { [ ! -t 0 ] || ! sudo -v; }; then
    say "sudo does not let us. Please install: ${missing[*]}"
    exit 0
  fi
  root=(sudo)
fi
say "installing ${missing[*]//|/ or }"

# strongSwan's packages start a system service on installation. The lab runs its own copies
# inside namespaces, so no service may start because of us.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  trap '"${root[@]}" rm -f $policy' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
  "${root[@]}" chmod 755 $policy
fi
apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
"${apt[@]}" update || say "apt-get update failed; trying with the lists that are there"

# With VAES and without AVX-512, version 1 of Intel's library is slow and 2.0 is not. Debian 12
# has version 1; the package of Debian 13 needs nothing else of it. apt checks its signature; the
# machine's own sources stay as they are.
cpu_wants_version_2() { grep -qw vaes /proc/cpuinfo && ! grep -qw avx512f /proc/cpuinfo; }
from_debian_13() {
  local own
  [ "$(. /etc/os-release && echo "$ID $VERSION_ID")" = "debian 12" ] || return 1
  own=$(mktemp -d) && chmod 755 "$own" && mkdir -p "$own/lists/partial" "$own/cache/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >"$own/sources"
  local of_13=(-qq -o "Dir::Etc::SourceList=$own/sources" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$own/lists" -o "Dir::Cache=$own/cache" -o APT::Sandbox::User=root)
  (cd "$own" && "${root[@]}" apt-get "${of_13[@]}" update && "${root[@]}" apt-get "${of_13[@]}" download "$1" &&
    "${root[@]}" dpkg -i "./$1"_*.deb) >/dev/null
  local result=$?
  "${root[@]}" rm -rf "$own"
  return $result
}

for i in "${!missing[@]}"; do
  [[ ${missing[i]} == *"|"* ]] || continue
  for package in ${missing[i]//|/ }; do
    apt-cache show "$package" >/dev/null 2>&1 && { missing[i]=$package; continue 2; }
    if [ "$package" = libipsec-mb2 ] && cpu_wants_version_2; then
      from_debian_13 "$package" && { unset "missing[i]"; continue 2; }
      say "Debian 13's $package could not be had"
    fi
  done
  say "this distribution has no ${missing[i]//|/ or }"
  unset "missing[i]"
done
[ ${#missing[@]} -eq 0 ] && exit 0
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" </dev/null >/dev/null || {
  say "apt-get could not install them; what needs them will be skipped"
}
