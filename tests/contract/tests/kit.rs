//! `postroom store check`, as an author meets it: the program over component files.

mod directory;

use std::path::Path;
use std::process::Output;

use directory::Directory;
use postroom_contract::{component, script};
use postroom_guest::User;
use postroom_guest::testing::Sample;
use postroom_kit::cases::Level;
use postroom_kit::promises::promise;
use postroom_kit::run::plan;
use postroom_system::node::postroom;
use serde_json::Value;

/// Runs a check; its exit code and what it says as JSON, the summary last.
fn check(file: &Path, more: &[&str]) -> (i32, Vec<Value>) {
    let file = file.to_str().expect("a path in UTF-8");
    let output = postroom(&[&["store", "check", file, "--json"], more].concat());
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    let lines = said.lines().map(|line| serde_json::from_str(line).expect("a JSON line"));
    let lines: Vec<Value> = lines.collect();
    assert!(!lines.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code().expect("an exit code"), lines)
}

/// The lines of cases with this outcome.
fn with<'a>(lines: &'a [Value], outcome: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["outcome"] == outcome).collect()
}

fn end(lines: &[Value]) -> &Value {
    lines.last().expect("a summary")
}

#[test]
fn the_stores_that_we_ship_reach_the_highest_level() {
    for name in ["keyed", "memory"] {
        let (code, lines) = check(&component(name), &[]);
        assert_eq!(with(&lines, "failed"), Vec::<&Value>::new(), "{name}");
        assert_eq!(with(&lines, "not-applicable"), Vec::<&Value>::new(), "{name}");
        assert_eq!(with(&lines, "passed").len(), plan(Level::Survives).len(), "{name}");
        assert_eq!(end(&lines)["level-reached"], 3, "{name}");
        assert_eq!(end(&lines)["promises-held"], end(&lines)["promises"], "{name}");
        assert_eq!(code, 0, "{name}");
    }
}

#[test]
fn a_store_of_one_kind_is_asked_for_that_kind() {
    let (code, lines) = check(&script("c", "c"), &[]);
    assert_eq!(with(&lines, "failed"), Vec::<&Value>::new());
    for line in with(&lines, "not-applicable") {
        assert!(!line["case"].as_str().expect("a name").starts_with("messages/"), "{line}");
        assert!(line["reason"].as_str().expect("a reason").contains("does not keep"), "{line}");
    }
    assert_eq!(end(&lines)["kinds"], serde_json::json!(["messages"]));
    assert_eq!(end(&lines)["level-reached"], 3);
    assert_eq!(code, 0);
}

#[test]
fn a_store_over_files_gets_a_directory_of_its_own() {
    let (code, lines) = check(&component("maildir"), &["--level", "1"]);
    assert_eq!(with(&lines, "failed"), Vec::<&Value>::new());
    assert_eq!((code, &end(&lines)["level-reached"]), (0, &Value::from(1)));
}

#[test]
fn a_directory_that_is_only_read_is_not_asked_to_write() {
    let users = (0..5).map(|n| User { account: None, extra: Vec::new(), ..User::sample(n) });
    let directory = Directory::start(users.collect());
    let url = format!("url={}", directory.url());
    let file = script("python", "http-users");
    let more = ["--http", "127.0.0.1", "--setting", &url, "--level", "1"];
    let (code, lines) = check(&file, &more);
    assert_eq!(with(&lines, "failed"), Vec::<&Value>::new());
    let unsupported = |line: &&&Value| line["reason"].as_str().unwrap().contains("unsupported");
    let refused = with(&lines, "not-applicable");
    assert!(refused.iter().filter(unsupported).count() > 0, "{refused:?}");
    assert_eq!((code, &end(&lines)["level-reached"]), (0, &Value::from(1)));

    // However high one asks: it does not write. And a case that could not be asked proves nothing.
    let (code, lines) = check(&file, &more[..4]);
    assert_eq!((code, &end(&lines)["level-reached"]), (1, &Value::from(1)));
    assert!(end(&lines)["promises-held"].as_u64() < end(&lines)["promises"].as_u64());
    let case = ["--case", "users/update_replaces_every_field"];
    let (code, lines) = check(&file, &[&more[..4], &case].concat());
    assert_eq!((code, &end(&lines)["not-applicable"]), (1, &Value::from(1)));

    directory.answer(Some((500, "{}")));
    let (code, lines) = check(&file, &more);
    assert_eq!((code, &end(&lines)["level-reached"]), (1, &Value::from(0)));
    assert!(!with(&lines, "failed").is_empty());
}

#[test]
fn a_broken_promise_is_quoted_with_the_calls_that_led_there_and_can_be_replayed() {
    // Of a row it keeps the name only.
    let file = component("onebyone");
    let (code, lines) = check(&file, &["--seed", "7"]);
    assert_eq!(code, 1);
    let early = lines.iter().filter(|line| line["level"] == 3);
    assert!(early.clone().count() > 0 && early.clone().all(|l| l["outcome"] == "not-applicable"));
    assert!(end(&lines)["level-reached"].as_u64().expect("a level") < 2);
    let name = "domains/insert_keeps_every_field";
    let line = lines.iter().find(|line| line["case"] == name).expect("the case has run");
    let failure = &line["failure"];
    assert_eq!(failure["promise"], "store.rule.7", "{line}");
    let sentence = promise("store.rule.7").expect("a promise").sentence;
    assert_eq!(failure["sentence"], sentence.as_str());
    let trace = failure["trace"].as_array().expect("calls");
    let call = |call: &Value| call.as_str().expect("a text").to_owned();
    let calls: Vec<String> = trace.iter().map(call).collect();
    assert!(calls.iter().any(|c| c.contains("insert(") && c.ends_with("→ ok")), "{calls:?}");
    assert!(calls.last().expect("a call").contains("list("), "{calls:?}");

    let replay = failure["replay"].as_str().expect("a command");
    assert!(replay.ends_with(&format!("--case {name} --seed 7")), "{replay}");
    let words: Vec<&str> = replay.split(' ').skip(1).collect();
    let again = postroom(&words);
    let said = String::from_utf8(again.stdout).expect("UTF-8");
    assert_eq!(again.status.code(), Some(1), "{said}");
    for part in ["FAILED 2 domains/insert", "broken  [store.rule.7]", "calls ", "replay  "] {
        assert!(said.contains(part), "{said} lacks {part}");
    }
    assert!(said.contains(&sentence), "{said} lacks {sentence}");
    assert!(said.contains("0 passed, 1 failed, 0 not applicable"), "{said}");
}

#[test]
fn a_replay_says_all_that_was_said_and_survives_a_shell() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("it's my store.wasm");
    std::fs::copy(component("onebyone"), &file).expect("a copy");
    let granted = ["--http", "127.0.0.1:80", "--setting", "motto=a $HOME 'b'"];
    let case = ["--case", "domains/insert_keeps_every_field", "--seed", "1"];
    let (code, lines) = check(&file, &[&granted[..], &case].concat());
    assert_eq!(code, 1);
    let replay = lines[0]["failure"]["replay"].as_str().expect("a command");
    let print = format!("printf '%s\\n' {replay}");
    let shell = std::process::Command::new("sh").args(["-c", &print]).output().expect("a shell");
    let said = String::from_utf8(shell.stdout).expect("UTF-8");
    let file = file.to_str().expect("UTF-8");
    let words = [&["postroom", "store", "check", file], &granted[..], &case].concat();
    assert_eq!(said.lines().collect::<Vec<_>>(), words, "{replay}");
}

#[test]
fn a_store_that_traps_is_a_failed_case_and_not_the_end_of_the_check() {
    // It takes handles without end when it is asked to drop, and loses its instance.
    let (code, lines) = check(&component("unruly"), &["--level", "2"]);
    assert_eq!(code, 1);
    let name = "domains/drop_removes_all_and_may_be_repeated";
    let line = lines.iter().find(|line| line["case"] == name).expect("the case has run");
    assert_eq!(line["outcome"], "failed", "{line}");
    assert_eq!(end(&lines)["level-reached"], 0);
    assert_eq!(lines.len(), plan(Level::Keeps).len() + 1);
}

/// Checks the store that sins, in this way in this function; the line of the case of this name.
fn sinning(sin: &str, verb: &str, case: &str) -> Value {
    let (sin, verb) = (format!("sin={sin}"), format!("verb={verb}"));
    let (code, mut lines) =
        check(&component("faulty"), &["--setting", &sin, "--setting", &verb, "--case", case]);
    assert_eq!((code, lines.len()), (1, 2), "{lines:?}");
    lines.swap_remove(0)
}

#[test]
fn what_the_host_itself_finds_wrong_breaks_the_sentence_that_it_breaks() {
    let sins = [
        ("too-many", "user.list", "users/list_pages_in_order_whatever_the_limits", "users.list.3"),
        ("more-of-nothing", "user.list", "users/reads_answer_whatever_is_there", "users.page.1"),
        ("wrong", "user.list", "users/update_replaces_every_field", "users.list.1"),
        ("wrong", "user.select", "users/update_replaces_every_field", "users.select.1"),
        (
            "more-of-nothing",
            "message.list",
            "messages/create_keeps_what_is_there",
            "messages.page.1",
        ),
        ("nonsense", "message.list", "messages/create_keeps_what_is_there", "store.rule.7"),
    ];
    for (sin, verb, case, promise) in sins {
        let line = sinning(sin, verb, case);
        assert_eq!(line["failure"]["promise"], promise, "{line}");
    }
}

#[test]
fn a_store_that_keeps_handles_is_found_out() {
    let line = sinning("hold", "message.insert", "messages/handles_are_let_go");
    assert_eq!(line["failure"]["promise"], "store.rule.4", "{line}");
}

#[test]
fn calls_meet_in_one_instance() {
    for (verb, kind) in [("user.list", "users"), ("message.list", "messages")] {
        let line = sinning("alone", verb, &format!("{kind}/calls_run_beside_each_other"));
        assert_eq!(line["failure"]["promise"], "store.rule.3", "{line}");
        let how = line["failure"]["how"].as_str().expect("a text");
        assert!(how.contains("another call is under way"), "{how}");
    }
}

#[test]
fn a_seed_gives_the_same_run_over_a_component() {
    let case = "random_operations_survive_a_failing_host";
    let calls = |seed| {
        let (code, lines) = check(&component("keyed"), &["--case", case, "--seed", seed]);
        assert_eq!(code, 0, "{lines:?}");
        let calls = |line: &Value| line["calls"].as_u64().expect("calls");
        with(&lines, "passed").into_iter().map(calls).collect::<Vec<_>>()
    };
    assert_eq!(calls("5"), calls("5"));
    assert_ne!(calls("5"), calls("6"));
}

#[test]
fn what_a_failing_store_has_printed_is_shown() {
    let case = "users/create_keeps_what_is_there";
    let line = sinning("trap", "user.create", case);
    let printed = line["failure"]["printed"].as_array().expect("lines");
    let says = |line: &Value| line.as_str().expect("a text").contains("as the settings say");
    assert!(printed.iter().any(says), "{line}");

    let file = component("faulty");
    let file = file.to_str().expect("UTF-8");
    let sin = ["--setting", "sin=flood", "--setting", "verb=user.list"];
    let wrong = ["--setting", "sin=trap", "--setting", "verb=user.create"];
    for (settings, says) in [(&wrong, "printed stderr: "), (&sin, "1 passed")] {
        let args = [&["store", "check", file, "--case", case], &settings[..]].concat();
        let said = String::from_utf8(postroom(&args).stdout).expect("UTF-8");
        assert!(said.contains(says), "{said}");
        assert!(said.lines().count() < 60, "{said}");
    }
}

#[test]
fn a_run_ends_when_failures_have_taken_too_long() {
    let sin = ["--setting", "sin=trap", "--setting", "verb=user.list", "--patience", "0"];
    let (code, lines) = check(&component("faulty"), &sin);
    assert_eq!((code, with(&lines, "failed").len()), (1, 1));
    let unrun = with(&lines, "not-run");
    assert!(unrun.len() > 100, "{}", unrun.len());
    assert!(unrun.iter().all(|line| line["reason"].as_str().unwrap().contains("--patience")));
    assert_eq!(end(&lines)["not-run"], unrun.len());
    assert_eq!(end(&lines)["level-reached"], 0);
    assert!(end(&lines)["promises-held"].as_u64() < end(&lines)["promises"].as_u64());
}

#[test]
fn each_line_says_what_it_is() {
    let case = ["--case", "users/create_keeps_what_is_there"];
    let (_, lines) = check(&component("memory"), &case);
    let types: Vec<_> = lines.iter().map(|line| line["type"].as_str().expect("a type")).collect();
    assert_eq!(types, ["case", "summary"]);
    let explained = postroom(&["store", "check", "--json", "--explain", case[1]]);
    let line: Value = serde_json::from_slice(&explained.stdout).expect("a JSON line");
    assert_eq!(line["type"], "explanation");
}

#[test]
fn a_case_is_explained_in_the_words_of_the_interface() {
    let output =
        postroom(&["store", "check", "--explain", "users/delete_passes_over_what_is_not_there"]);
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(&promise("users.delete.1").expect("a promise").sentence), "{said}");
    assert!(said.contains("level 2: keeps records"), "{said}");
}

fn refused(args: &[&str], says: &str) {
    let Output { status, stdout, stderr } = postroom(args);
    let said = String::from_utf8(stderr).expect("UTF-8");
    assert_eq!(status.code(), Some(2), "{args:?}: {said}");
    assert!(stdout.is_empty(), "{args:?}");
    assert!(said.contains(says), "{args:?}: {said}");
}

#[test]
fn what_cannot_be_checked_is_refused_in_one_line() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let file = folder.path().join("text.wasm");
    std::fs::write(&file, "no component").expect("a file");
    let file = file.to_str().expect("UTF-8");
    refused(&["store", "check", file], "is no WebAssembly component");
    refused(&["store", "check", "/nowhere/store.wasm"], "cannot be read");
    refused(&["store", "check"], "<FILE>");
    refused(&["store", "check", file, "--level", "4"], "1..=3");
    refused(&["store", "check", file, "--setting", "x"], "NAME=VALUE");
    refused(&["store", "check", file, "--case", "select_answers"], "select_answers_in_the_order");
    refused(&["store", "check", "--explain", "nonsense"], "there is no case nonsense");
}
