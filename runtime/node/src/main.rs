//! `postroom`: see `postroom --help`.

fn main() -> std::process::ExitCode {
    postroom_node::cli::main()
}
