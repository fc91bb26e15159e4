# The recipes only call cargo, so that nothing else is needed: `cargo xtask --help`.

# A node to try things on
dev *args:
    cargo xtask dev {{args}}

# All tests, with the set-up that they need
test *filter:
    cargo xtask test {{filter}}

# What CI runs
ci:
    cargo xtask ci

# Benchmarks with their ratios
bench *args:
    cargo xtask bench {{args}}
