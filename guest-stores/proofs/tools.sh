#!/bin/sh
# Puts the tool chains of the other languages into guest-stores/target/tools, from pinned packages.
# Repeatable: what is there already in the right version stays.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
python=$here/target/tools/python
stamp="componentize-py==0.25.1 ziglang==0.17.1"

if [ "$(cat "$python/.stamp" 2>/dev/null || true)" = "$stamp" ]; then
    exit 0
fi
rm -rf "$python"
mkdir -p "$here/target/tools"
python3 -m venv "$python"
# Unquoted on purpose: one package a word.
"$python/bin/pip" install --quiet --disable-pip-version-check $stamp
printf '%s\n' "$stamp" >"$python/.stamp"
