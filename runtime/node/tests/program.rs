//! The program as a person meets it first: every command explains itself, and wrong usage is told
//! apart from failure. It stands in this package so that a test run builds the program, which the
//! system tests start.

use std::process::{Command, Output};

fn postroom(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_postroom")).args(args).output().expect("the program starts")
}

fn help(path: &[&str]) -> String {
    let output = postroom(&[path, &["--help"]].concat());
    assert_eq!(output.status.code(), Some(0), "{path:?}");
    String::from_utf8(output.stdout).expect("help is text")
}

/// Names of the commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
    let lines = listed.lines().take_while(|line| !line.is_empty());
    // Descriptions that go on in the next line are indented further.
    let named = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = named.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Checks the help of a command and of all commands below it; returns how many.
fn check(path: &[&str]) -> usize {
    let text = help(path);
    let says = text.lines().next().unwrap_or_default();
    // Without a text of its own, clap's help begins with the usage.
    assert!(!says.is_empty() && !says.starts_with("Usage"), "{path:?} begins with {says:?}");
    assert!(text.contains("Usage: postroom"), "{path:?} lacks its usage: {text}");
    let below = commands(&text);
    1 + below.iter().map(|name| check(&[path, &[name.as_str()]].concat())).sum::<usize>()
}

#[test]
fn every_command_explains_itself() {
    let explained = check(&[]);
    assert!(explained > 15, "only {explained} commands were found in the help texts");
}

#[test]
fn wrong_usage_has_an_exit_code_of_its_own() {
    for args in [&["nonsense"][..], &["dev", "--imap", "nowhere"], &["import"], &[]] {
        let output = postroom(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
}
