#!/bin/bash
# Runs go test, shows failures as they come and keeps the record from which count-tests.sh counts.
# usage: go-test.sh NAME GO-TEST-ARGUMENTS…
set -uo pipefail
name=$1
shift
mkdir -p .cache/results
out=.cache/results/$name.json
go test -json "$@" >"$out"
code=$?
python3 - "$out" <<'PY'
import json, sys
output, failed, packages = {}, [], {}
for line in open(sys.argv[1]):
    try:
        e = json.loads(line)
    except ValueError:
        print(line, end="")
        continue
    key = (e.get("Package", ""), e.get("Test", ""))
    action = e["Action"]
    if action in ("output", "build-output"):
        output.setdefault(key if action == "output" else (e.get("ImportPath", ""), ""), []).append(e["Output"])
    elif action == "fail":
        failed.append(key)
    if action in ("pass", "fail", "skip") and not e.get("Test"):
        packages[e["Package"]] = (action, e.get("Elapsed", 0))
for key in failed:
    print("".join(output.get(key, [])), end="")
for key in output:
    if key[1] == "" and any("build failed" in o or "cannot" in o for o in output[key]):
        print("".join(output[key]), end="")
for p, (action, seconds) in sorted(packages.items()):
    print(f"{action}\t{p}\t{seconds:.1f}s")
PY
exit $code
