#!/usr/bin/env bash
# Installs the Debian packages that some tests need (a browser for the report; Slurm and namespaces for several machines). Root, or sudo without a password.
set -euo pipefail

packages=(chromium slurm-wlm munge iproute2)

if [ "${#packages[@]}" -eq 0 ]; then
    exit 0
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo -n)
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
