#!/bin/sh
# Installs the Debian packages that building, testing and the demo need, and those named by arguments, if any is missing.
set -eu
missing=
for package in gcc pkg-config libseccomp-dev zstd iproute2 nftables util-linux procps curl "$@"; do
	dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if ! command -v docker >/dev/null; then
	missing="$missing docker.io"
fi
[ -z "$missing" ] && exit 0
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# docker.io is for its command line only: its services are not started.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod +x /usr/sbin/policy-rc.d
trap 'rm -f /usr/sbin/policy-rc.d' EXIT
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
