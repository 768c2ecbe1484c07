#!/bin/bash
# Makes and removes objects of one kind for ever. The third serial port is told of each step, before ("try") and once the daemon has acknowledged it
# ("ack"): KIND make|remove NAME, and of what was made what tells it from others of its name. Arguments: the kind, a prefix of new names, a seed, and
# the names that are there. It ends after a step once there is a file /run/churn-stop.
set -o pipefail
kind=$1 prefix=$2 RANDOM=$3
shift 3
api() { # METHOD PATH [BODY]: prints the answer's body; fails unless the daemon has acknowledged
	curl -sf --max-time 120 --unix-socket /var/run/docker.sock -X "$1" -H 'Content-Type: application/json' ${3:+-d "$3"} "http://d$2"
}
field() { grep -o "\"$1\":\"[^\"]*\"" | head -1 | cut -d '"' -f 4; } # of an answer
tell() {
	local IFS=' '
	printf '%s\n' "$*" >/dev/ttyS2
}
make() { # prints the ID, or the content
	case $kind in
	volume)
		local dir
		dir=$(api POST /volumes/create "{\"Name\":\"$1\",\"Labels\":{\"n\":\"$1\"}}" | field Mountpoint) &&
			echo "content-of-$1" >"$dir/content" && sync "$dir/content" "$dir" && echo "content-of-$1"
		;;
	network) api POST /networks/create "{\"Name\":\"$1\",\"Labels\":{\"n\":\"$1\"}}" | field Id ;;
	secret) api POST /secrets/create "{\"Name\":\"$1\",\"Data\":\"$(base64 <<<"$1")\"}" | field ID ;;
	service) api POST /services/create "{\"Name\":\"$1\",\"TaskTemplate\":{\"ContainerSpec\":{\"Image\":\"busybox\",\"Args\":[\"sleep\",\"1000000\"]}}}" | field ID ;;
	container)
		local id
		id=$(api POST "/containers/create?name=$1" '{"Image":"busybox","Cmd":["sleep","1000000"],"HostConfig":{"RestartPolicy":{"Name":"always"}}}' | field Id) &&
			api POST "/containers/$1/start" && echo "$id"
		;;
	esac
}
remove() {
	case $kind in
	volume) api DELETE "/volumes/$1" ;;
	network) api DELETE "/networks/$1" ;;
	secret) api DELETE "/secrets/$1" ;;
	service) api DELETE "/services/$1" ;;
	container) api DELETE "/containers/$1?force=1" ;;
	esac
}
most=20
case $kind in
network) most=5 ;;
container) most=3 ;;
service) most=2 ;;
esac
made=("$@")
for ((n = 0; ; n++)); do
	[ -e /run/churn-stop ] && exit
	if ((${#made[@]} >= most || (${#made[@]} > 0 && RANDOM % 3 == 0))); then
		i=$((RANDOM % ${#made[@]})) name=${made[i]}
		tell try "$kind" remove "$name"
		remove "$name" >/dev/null && tell ack "$kind" remove "$name"
		unset 'made[i]'
		made=("${made[@]}")
	else
		name=$prefix-$n
		tell try "$kind" make "$name"
		id=$(make "$name") && tell ack "$kind" make "$name" "$id"
		made+=("$name")
	fi
done
