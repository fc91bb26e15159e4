#!/bin/sh
# Builds the C store: bindings, core module, component with its manifest, in target/proofs/c.wasm.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
stores=$(cd "$here/../.." && pwd)
out=$stores/target/proofs

# Nothing to do while nothing has changed.
if [ -f "$out/c.wasm" ] && [ -z "$(find "$here" "$here/../tools.sh" "$stores/../wit" "$stores/tools/src" "$stores/Cargo.lock" -newer "$out/c.wasm")" ]; then
    exit 0
fi
"$here/../tools.sh"
mkdir -p "$out/c"

tools() {
    cargo run --quiet --manifest-path "$stores/Cargo.toml" --package postroom-guest-tools -- "$@"
}

tools c-bindings "$stores/../wit" message-store "$out/c"
ZIG_GLOBAL_CACHE_DIR=$out/zig-cache ZIG_LOCAL_CACHE_DIR=$out/zig-cache \
    "$stores/target/tools/python/bin/python" -m ziglang cc -target wasm32-wasi \
    -mexec-model=reactor -Os -Wall -Wextra -Wno-unused-parameter -I "$out/c" \
    "$here/store.c" "$here/codec.c" "$out/c/message_store.c" "$out/c/message_store_component_type.o" \
    -o "$out/c/core.wasm"
tools component "$out/c/core.wasm" "$out/c/component.wasm"
tools manifest "$out/c/component.wasm" "$here/manifest.json" "$out/c.wasm"
