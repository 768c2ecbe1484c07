#!/bin/bash
# Fails, and says what is there, if tests or the demo left anything of ours on this machine.
found=0
tell() { if [ -n "$2" ]; then printf 'left behind: %s:\n%s\n' "$1" "$2"; found=1; fi; }
tell "network namespaces" "$(ip netns list 2>/dev/null | grep '^shoal-')"
tell "mounts" "$(grep -E '/shoal-[^ ]*/' /proc/self/mountinfo)"
tell "cgroups" "$(find /sys/fs/cgroup -type d -name 'shoal-*' -prune 2>/dev/null)"
tell "links" "$(ip -o link 2>/dev/null | grep -E 'docker_gwbridge|docker0|ing0|veth')"
tell "nft tables" "$(nft list tables 2>/dev/null | grep -i shoal)"
tell "processes" "$(pgrep -af '[s]hoal-shim|[s]hoal daemon')"
exit $found
