# What a developer does every day; `.ci/run` is what decides.

export CARGO_TERM_COLOR := "auto"

# List the recipes.
default:
    @just --list

build:
    cargo build --locked

# A server on its defaults, with its data in ./data.
serve *arguments:
    cargo run --locked -- serve {{ arguments }}

test *arguments:
    cargo test --workspace --locked {{ arguments }}

# The suite on a PostgreSQL server as well, named like postgres://user@host:port/database.
test-postgres url *arguments:
    TOKEN_AUTHORITY_TEST_POSTGRES={{ quote(url) }} cargo test --workspace --locked {{ arguments }}

lint:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cd proto && buf lint
    cargo deny check bans licenses sources

format:
    cargo fmt --all

doc:
    cargo doc --workspace --no-deps --locked --open

ci:
    .ci/run

# How fast it is, beside what it can be compared with.
bench *arguments:
    cargo bench --locked --bench speed -- {{ arguments }}
