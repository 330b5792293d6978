#!/usr/bin/env bash
# Runs every fuzz target of the workspace for a time, and fails with the first that
# fails. fuzz.sh TIME
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Found by name: to ask every package would build the tests of every package.
targets=$(grep -ro --include='*_test.go' --exclude-dir='.?*' '^func Fuzz[A-Za-z0-9_]*' . | sed -E 's,/[^/]*:func ,:,')
for target in $targets; do
  echo "$target"
  for try in 1 2 3; do
    status=0
    said=$(go test -run '^$' -fuzz "^${target#*:}\$" -fuzztime "$1" "${target%:*}" 2>&1) || status=$?
    echo "$said"
    [ $status -ne 0 ] || break
    # Go before 1.27 can take the end of the time for a failure (golang/go#75804): a
    # line of its own, and no input. Whatever else is said is one.
    if [ $try -eq 3 ] || [[ $said != *$'\n    context deadline exceeded\n'* ]] || [[ $said == *'Failing input written'* ]]; then
      exit $status
    fi
    echo "$target: the time was over, and nothing failed; once more"
  done
done
