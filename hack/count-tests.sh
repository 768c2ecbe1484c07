#!/bin/bash
# Counts the tests of the last runs and prints the closing line.
exec go run ./hack/testreport count .cache/results/*.json
