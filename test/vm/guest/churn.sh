#!/bin/bash
# Makes and removes objects of one kind for ever. The third serial port is told of each step, before ("try") and once the daemon has acknowledged it
# ("ack"): KIND make|remove NAME. Arguments: the kind, a prefix of new names, a seed, and the names that are there.
kind=$1 prefix=$2 RANDOM=$3
shift 3
api() { # METHOD PATH [BODY]: prints the answer's body; fails unless the daemon has acknowledged
	curl -sf --max-time 120 --unix-socket /var/run/docker.sock -X "$1" -H 'Content-Type: application/json' ${3:+-d "$3"} "http://d$2"
}
tell() { printf '%s %s %s %s\n' "$@" >/dev/ttyS2; }
make() {
	case $kind in
	volume) api POST /volumes/create "{\"Name\":\"$1\",\"Labels\":{\"n\":\"$1\"}}" ;;
	network) api POST /networks/create "{\"Name\":\"$1\",\"Labels\":{\"n\":\"$1\"}}" ;;
	secret) api POST /secrets/create "{\"Name\":\"$1\",\"Data\":\"$(base64 <<<"$1")\"}" ;;
	container) api POST "/containers/create?name=$1" '{"Image":"busybox","Cmd":["sleep","1000000"],"HostConfig":{"RestartPolicy":{"Name":"always"}}}' &&
		api POST "/containers/$1/start" ;;
	esac
}
remove() {
	case $kind in
	volume) api DELETE "/volumes/$1" ;;
	network) api DELETE "/networks/$1" ;;
	secret) api DELETE "/secrets/$1" ;;
	container) api DELETE "/containers/$1?force=1" ;;
	esac
}
most=20
[ "$kind" = network ] && most=5
[ "$kind" = container ] && most=4
made=("$@")
for ((n = 0; ; n++)); do
	if ((${#made[@]} >= most || (${#made[@]} > 0 && RANDOM % 3 == 0))); then
		i=$((RANDOM % ${#made[@]})) name=${made[i]}
		tell try "$kind" remove "$name"
		remove "$name" >/dev/null && tell ack "$kind" remove "$name"
		unset 'made[i]'
		made=("${made[@]}")
	else
		name=$prefix-$n
		tell try "$kind" make "$name"
		make "$name" >/dev/null && tell ack "$kind" make "$name"
		made+=("$name")
	fi
done
