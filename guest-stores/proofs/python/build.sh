#!/bin/sh
# Builds the Python stores into target/proofs/http-users.wasm and message-rows.wasm.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
stores=$(cd "$here/../.." && pwd)
out=$stores/target/proofs
python=$stores/target/tools/python/bin

# Nothing to do while nothing has changed.
if [ -f "$out/message-rows.wasm" ] && [ -z "$(find "$here" "$here/../tools.sh" "$stores/../wit" "$stores/tools/src" "$stores/Cargo.lock" -newer "$out/message-rows.wasm")" ]; then
    exit 0
fi
"$here/../tools.sh"

# WASI's own definitions come with the crate that implements them in the node, in its version.
host=$(rustc -vV | sed -n 's/^host: //p')
wasi=$(cargo metadata --format-version 1 --locked --filter-platform "$host" \
    --manifest-path "$stores/../Cargo.toml" |
    "$python/python" -c '
import json, os, sys
packages = json.load(sys.stdin)["packages"]
[path] = [p["manifest_path"] for p in packages if p["name"] == "wasmtime-wasi-http"]
print(os.path.join(os.path.dirname(path), "wit", "deps"))')

rm -rf "$out/wit"
mkdir -p "$out/wit/deps/postroom-store"
cp "$here/world.wit" "$out/wit/"
cp "$stores/../wit/store.wit" "$out/wit/deps/postroom-store/"
cp -r "$stores/../wit/deps/postroom-host" "$out/wit/deps/"
cp "$wasi"/*.wit "$out/wit/deps/"

for name in http-users message-rows; do
    "$python/componentize-py" --quiet --wit-path "$out/wit" --world "$name-world" componentize \
        --python-path "$here" --output "$out/$name.component.wasm" "$(echo "$name" | tr - _)"
    cargo run --quiet --manifest-path "$stores/Cargo.toml" --package postroom-guest-tools -- \
        manifest "$out/$name.component.wasm" "$here/$name.json" "$out/$name.wasm"
done
