#!/bin/bash
# Runs go test, prints what failed and a line per package, and keeps the record that the closing line is counted from.
# usage: go-test.sh NAME GO-TEST-ARGUMENTS…
set -uo pipefail
name=$1
shift
mkdir -p .cache/results
out=.cache/results/$name.json
go test -json "$@" >"$out"
code=$?
go run ./hack/testreport show "$out" || code=1
exit $code
