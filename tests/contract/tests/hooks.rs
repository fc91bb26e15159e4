//! Hooks as an operator meets them: the program with component files.

use std::process::{Command, Stdio};

use postroom_contract::component;
use postroom_system::node::{postroom, program};
use postroom_system::{ImapClient, LmtpClient, Node, scratch};

const SPAM: &[u8] = b"Subject: spam\r\nX-Spam-Flag: YES\r\n\r\nbuy\r\n";
const HAM: &[u8] = b"Subject: ham\r\n\r\nhello\r\n";

/// Messages of anna's mailbox: their octets as FETCH shows them.
fn fetched(node: &Node, mailbox: &str) -> String {
    let mut imap = ImapClient::log_in(node.imap, "anna", &node.password).expect("she logs in");
    assert!(imap.command(&format!("EXAMINE {mailbox}")).expect("an answer").is_ok(), "{mailbox}");
    let answer = imap.command("FETCH 1:* (RFC822.SIZE BODY.PEEK[])").expect("an answer");
    answer.lines().join("\n")
}

#[test]
fn deliveries_pass_the_hooks_of_a_node_and_other_mail_does_not() {
    let (data, files) = (scratch(), scratch());
    let refile = files.path().join("refile.wasm");
    std::fs::copy(component("refile"), &refile).expect("it is copied");
    let args = ["--hook", refile.to_str().expect("UTF-8")];
    let node = Node::start_with(data.path(), &args);
    let mut mta = LmtpClient::connect(node.lmtp).expect("it listens");
    for mail in [SPAM, HAM] {
        let replies = mta.deliver(&["anna@example.org"], mail).expect("replies");
        assert!(replies[0].starts_with("250"), "{replies:?}");
    }
    let mut imap = ImapClient::log_in(node.imap, "anna", &node.password).expect("she logs in");
    assert!(imap.append("INBOX", "", SPAM).expect("an answer").is_ok());
    let (junk, inbox) = (fetched(&node, "Junk"), fetched(&node, "INBOX"));
    assert_eq!(junk.matches("Subject: spam").count(), 1, "{junk}");
    assert!(
        junk.contains("\r\nX-Postroom-Refile: Junk\r\nReturn-Path: <sender@example.org>"),
        "{junk}"
    );
    assert!(inbox.contains("Subject: ham") && inbox.contains("Subject: spam"), "{inbox}");
    assert!(!inbox.contains("X-Postroom-Refile"), "a client's own mail passes no hook: {inbox}");
    assert_eq!(node.stop(), Some(0));
    // A command delivers nothing, and does not need the hook.
    std::fs::remove_file(&refile).expect("it is there");
    let folder = data.path().to_str().expect("UTF-8");
    let listed = postroom(&["mailbox", "list", "--user", "anna", "--data", folder]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.status.success() && text.contains("Junk"), "{text}");
}

#[test]
fn a_component_without_hooks_is_refused_as_a_hook_in_one_line() {
    let data = scratch();
    let config = data.path().join("postroom.toml");
    let file = |name: &str| component(name).display().to_string();
    let text = format!(
        "data = {:?}\n[imap]\nlisten = []\n[lmtp]\nlisten = []\n[stores]\nhooks = [\"filter\", \"plain\"]\n\
         [components.filter]\nfile = {:?}\n[components.plain]\nfile = {:?}\n",
        data.path().join("data").display().to_string(),
        file("refile"),
        file("memory"),
    );
    std::fs::write(&config, text).expect("it is written");
    let mut serve = Command::new(program());
    serve.args(["serve", "--config"]).arg(&config).stdin(Stdio::null());
    let output = serve.output().expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    let told: Vec<_> = error.lines().filter(|line| line.contains("stores.hooks")).collect();
    assert_eq!(told.len(), 1, "{error}");
    assert!(told[0].contains("plain exports no hooks"), "{error}");
}

#[test]
fn a_hook_is_shown_as_one_and_has_no_cases() {
    let refile = component("refile");
    let file = refile.to_str().expect("UTF-8");
    let inspected = postroom(&["store", "inspect", file]);
    let text = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(
        inspected.status.success() && text.contains("has hooks") && !text.contains("keeps"),
        "{text}"
    );
    let checked = postroom(&["store", "check", file]);
    let error = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert_eq!(checked.status.code(), Some(2), "{error}");
    assert!(error.contains("there are no cases for hooks"), "{error}");
}
