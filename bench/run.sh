#!/usr/bin/env bash
# Runs the benchmark: bash bench/run.sh [short|full] [options]; --help after the form tells them.
# Installs the peers at pinned versions into .cache/bench-venv, builds rasterloom, and goes.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.cache/bench-venv
stamp=$venv/.installed
wanted=$(cat bench/requirements.txt python/pyproject.toml | cksum)
if [[ ! -f $stamp || $(cat "$stamp") != "$wanted" ]]; then
  echo "bench: installing the peers into $venv" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r bench/requirements.txt
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --editable python
  echo "$wanted" >"$stamp"
fi

form=${1:-short}
[[ $# -gt 0 ]] && shift
case " $form $* " in
  *" --binary "* | *" report "* | *" --help "*) ;;
  *)
    echo "bench: building rasterloom" >&2
    mkdir -p .bin
    go build -o .bin/rasterloom ./cmd/rasterloom
    ;;
esac
exec "$venv/bin/python" -m bench "$form" "$@"
