#!/bin/sh
# Builds the programs that travel inside shoal, the shim and a static runc, into internal/runtime/assets.
# Idempotent: what is already built for the same sources (kept under .cache/assets) is not built again.
set -eu
cd "$(dirname "$0")/.."
out=internal/runtime/assets
cache=.cache/assets
runc_version=v1.5.2
mkdir -p "$out" "$cache"

# pack NAME: compresses $cache/NAME when it is newer than what is in $out, and notes the hash that names it when unpacked.
pack() {
	if [ ! -e "$out/$1.zst" ] || [ ! -e "$out/$1.sum" ] || [ "$cache/$1" -nt "$out/$1.zst" ]; then
		zstd -q -f -9 "$cache/$1" -o "$out/$1.zst.tmp"
		mv "$out/$1.zst.tmp" "$out/$1.zst"
		sha256sum <"$cache/$1" | cut -c1-16 >"$out/$1.sum"
	fi
}

shim_key=$(cat cmd/shoal-shim/*.go go.sum | sha256sum | cut -c1-16)-$(go env GOVERSION)
if [ "$(cat "$cache/shoal-shim.key" 2>/dev/null)" != "$shim_key" ]; then
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o "$cache/shoal-shim" ./cmd/shoal-shim
	echo "$shim_key" >"$cache/shoal-shim.key"
fi
pack shoal-shim

if [ ! -x "$cache/runc-$runc_version" ]; then
	if command -v pkg-config >/dev/null && pkg-config --exists libseccomp; then
		gobin=$(mktemp -d)
		trap 'rm -rf "$gobin"' EXIT
		GOBIN=$gobin CGO_ENABLED=1 GOFLAGS= go install -trimpath -tags 'seccomp netgo osusergo' \
			-ldflags '-s -w -extldflags -static' "github.com/opencontainers/runc@$runc_version"
		mv "$gobin/runc" "$cache/runc-$runc_version"
	else
		echo "build-assets: libseccomp-dev or pkg-config is missing; shoal will use the runc or crun on PATH" >&2
		exit 0
	fi
fi
cp -p "$cache/runc-$runc_version" "$cache/runc"
pack runc
