#!/bin/bash
# Lists what of ours is on this machine: after tests and the demo there must be no more than before.
# usage: leftovers.sh [FILE]   with FILE (an earlier list), prints what is new and fails if there is any
list() {
	ip netns list 2>/dev/null | awk '/^shoal-/ {print "network namespace", $1}'
	awk '$5 ~ /\/shoal-/ {print "mount", $5}' /proc/self/mountinfo
	find /sys/fs/cgroup -type d -name 'shoal-*' -prune -printf 'cgroup %p\n' 2>/dev/null
	ip -o link 2>/dev/null | awk -F'[:@ ]+' '$2 ~ /^(docker_gwbridge|docker0|ing0|wg-shoal|veth)/ {print "link", $2}'
	nft list tables 2>/dev/null | awk '/shoal/ {print "nft", $0}'
	find /run /tmp -maxdepth 1 -name 'shoal*' -printf 'path %p\n' 2>/dev/null
	ps -eo stat,pid,args | awk '$1 !~ /Z/ && /shoal-shim|shoal daemon|shoal wireguard/ && !/awk/ {print "process", $0}'
}
if [ $# -eq 0 ]; then
	list | sort
	exit 0
fi
new=$(comm -13 "$1" <(list | sort))
if [ -n "$new" ]; then
	printf 'left behind:\n%s\n' "$new"
	exit 1
fi
