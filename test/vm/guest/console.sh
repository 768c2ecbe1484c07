#!/bin/bash
# Reads commands from the second serial port, one a line: an ID, and the command in base64. Answers with the ID, the exit code and the output in base64.
stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>/dev/null
while read -r id text; do
	out=$(timeout 600 bash -c "$(base64 -d <<<"$text")" 2>&1 </dev/null)
	code=$?
	printf '%s %s %s\n' "$id" "$code" "$(base64 -w0 <<<"$out")"
done
