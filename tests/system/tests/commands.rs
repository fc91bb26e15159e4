//! Operators' commands, as a person types them: what they do, and what they say when they cannot.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use postroom_system::node::{postroom, program};
use postroom_system::{ImapClient, LmtpClient, Node, eventually, scratch};

fn text(path: &Path) -> &str {
    path.to_str().expect("the temporary folder is UTF-8")
}

fn said(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// Runs a command that must succeed and returns what it printed.
fn done(args: &[&str]) -> String {
    let output = postroom(args);
    let (printed, error) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{args:?}: {}: {error}{printed}", output.status);
    printed
}

/// Runs a command that must fail with one line that contains `expected`.
fn refused(args: &[&str], expected: &str) {
    check_refusal(&postroom(args), expected);
}

fn check_refusal(output: &Output, expected: &str) {
    let error = said(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert_eq!(error.trim_end().lines().count(), 1, "not one line: {error}");
    assert!(error.contains(expected), "{error:?} lacks {expected:?}");
}

/// Runs a command with something on its standard input.
fn done_with_input(args: &[&str], input: &str) -> Output {
    let mut child = Command::new(program())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// Messages with everything that archives get wrong.
fn samples() -> Vec<Vec<u8>> {
    let long = "x".repeat(30_000);
    [
        "Subject: plain\r\n\r\nText.\r\n".to_owned(),
        "Subject: from\r\n\r\nFrom the start of a line\r\n>From quoted already\r\n".to_owned(),
        "Subject: blank lines\r\n\r\n\r\n\r\nEnd with blank lines\r\n\r\n".to_owned(),
        "Subject: no body\r\n\r\n".to_owned(),
        "Subject: umlauts\r\n\r\nGrüße, \u{1F4EE}\r\n.\r\n..\r\n".to_owned(),
        format!("Subject: large\r\n\r\n{}\r\n", format!("{long}\r\n").repeat(10)),
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn mbox(messages: &[Vec<u8>]) -> Vec<u8> {
    let mut file = Vec::new();
    for (number, message) in messages.iter().enumerate() {
        let from = format!("From a@example.org Thu Jan  1 00:00:{number:02} 2015 +0100\r\n");
        file.extend_from_slice(from.as_bytes());
        file.extend_from_slice(message);
        file.extend_from_slice(b"\r\n");
    }
    file
}

/// Without the `From ` lines, which an export writes in its own way.
fn without_from_lines(file: &[u8]) -> Vec<u8> {
    let lines = file.split_inclusive(|&octet| octet == b'\n');
    let own = |line: &&[u8]| line.starts_with(b"From ") && line.windows(3).any(|w| w == b":00");
    lines.filter(|line| !own(line)).collect::<Vec<_>>().concat()
}

#[test]
fn mail_goes_through_import_and_export_octet_by_octet() {
    let folder = scratch();
    let (data, source) = (folder.path().join("data"), folder.path().join("in.mbox"));
    std::fs::write(&source, mbox(&samples())).unwrap();
    let node = Node::start(&data);
    let admin = node.admin.to_string();
    let by_admin = ["--user", "ida", "--mailbox", "Old/2015", "--admin", &admin];
    let printed = done(&[&["import", text(&source)], &by_admin[..]].concat());
    assert!(printed.contains("imported 6 messages"), "{printed}");
    let first = folder.path().join("first.mbox");
    done(&[&["export", text(&first)], &by_admin[..]].concat());
    let expected = without_from_lines(&std::fs::read(&source).unwrap());
    assert!(without_from_lines(&std::fs::read(&first).unwrap()) == expected);

    // The same through IMAP.
    let mut client = ImapClient::log_in(node.imap, "ida", "secret").unwrap();
    client.command("SELECT Old/2015").unwrap();
    let fetched = client.command("FETCH 1:* (INTERNALDATE BODY.PEEK[])").unwrap();
    for (line, sample) in fetched.untagged.iter().zip(samples()) {
        assert!(line.windows(sample.len()).any(|window| window == sample), "{line:?}");
        assert!(line.windows(6).any(|window| window == b" +0100"), "the zone is kept");
    }

    // A stopped node's folder, and a Maildir on the way.
    assert_eq!(node.stop(), Some(0));
    let by_data = ["--user", "ida", "--mailbox", "Old/2015", "--data", text(&data)];
    let maildir = folder.path().join("maildir");
    done(&[&["export", text(&maildir), "--format", "maildir"], &by_data[..]].concat());
    let again = ["--user", "ida", "--mailbox", "Again", "--data", text(&data)];
    done(&[&["import", text(&maildir)], &again[..]].concat());
    let last = folder.path().join("last.mbox");
    done(&[&["export", text(&last)], &again[..]].concat());
    assert!(without_from_lines(&std::fs::read(&last).unwrap()) == expected);
    let listed = done(&["--json", "mailbox", "list", "--user", "ida", "--data", text(&data)]);
    assert!(
        listed.lines().any(|l| l.contains("\"Again\"") && l.contains("\"messages\":6")),
        "{listed}"
    );
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let folder = scratch();
    let data = folder.path().join("data");
    let file = folder.path().join("file");
    let (data, file) = (text(&data), text(&file));
    refused(&["import", "nowhere", "--user", "a", "--data", data], "no data folder of a node");
    let node = Node::start(Path::new(data));
    let admin = node.admin.to_string();
    refused(&["user", "list", "--data", data], "in use by another process");
    refused(&["import", "/nowhere", "--user", "a", "--admin", &admin], "cannot read /nowhere");
    std::fs::write(file, "Subject: no mbox\n\n").unwrap();
    refused(&["import", file, "--user", "a", "--admin", &admin], "no mbox");
    refused(&["export", file, "--user", "a", "--admin", &admin], "not there yet");
    refused(&["dev", "--data", text(folder.path())], "name an empty folder");
    let none = ["--user", "a", "--mailbox", "None", "--admin", &admin];
    refused(&[&["export", "/nowhere/x"], &none[..]].concat(), "has no mailbox None");
    refused(&["mailbox", "list", "--user", "a b", "--admin", &admin], "not a user or address");
    refused(&["store", "inspect", file], "WebAssembly");
    refused(&["serve", "--config", "/nowhere"], "cannot read the configuration");
    std::fs::write(file, "[imap]\nlissten = []\n").unwrap();
    refused(&["serve", "--config", file], "line 2: unknown field `lissten`");
    refused(&["dev", "--data", file], file);
    refused(&["dev", "--imap", "192.0.2.1:1"], "no loopback address");
    assert_eq!(node.stop(), Some(0));
    refused(&["user", "list", "--admin", &admin], "no node answers");
    std::fs::create_dir(folder.path().join("foreign")).unwrap();
    std::fs::create_dir(folder.path().join("foreign/storage")).unwrap();
    std::fs::write(folder.path().join("foreign/storage/thesis.txt"), "x").unwrap();
    refused(&["dev", "--data", text(&folder.path().join("foreign"))], "no Postroom data");
}

/// UIDVALIDITY, UIDNEXT and the number of messages of a mailbox.
fn status(node: &Node, mailbox: &str) -> [u64; 3] {
    let mut client = ImapClient::log_in(node.imap, "ida", "secret").unwrap();
    let asked = format!("STATUS {mailbox} (UIDVALIDITY UIDNEXT MESSAGES)");
    let line = client.command(&asked).unwrap().lines().remove(0);
    ["UIDVALIDITY ", "UIDNEXT ", "MESSAGES "].map(|name| {
        let rest = line.split_once(name).unwrap_or_else(|| panic!("{line}")).1;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().unwrap()
    })
}

#[test]
fn a_backup_of_a_running_node_is_restored_and_no_uid_means_two_messages() {
    let folder = scratch();
    let path = |name: &str| folder.path().join(name);
    let (data, source, copy) = (path("data"), path("in.mbox"), path("backup"));
    std::fs::write(&source, mbox(&samples())).unwrap();
    let node = Node::start(&data);
    let admin = node.admin.to_string();
    let mail = ["--user", "ida", "--mailbox", "INBOX"];
    let import = [&["import", text(&source)], &mail[..], &["--admin", &admin]].concat();
    done(&import);
    done(&["backup", text(&copy), "--admin", &admin]);
    refused(&["backup", text(&copy), "--admin", &admin], "exists already");
    // Announced after the backup.
    done(&import);
    let before = status(&node, "INBOX");
    assert_eq!(before[1..], [13, 12]);
    assert!(done(&["scrub", "--admin", &admin]).contains(" 0 found damaged"));
    assert_eq!(node.stop(), Some(0));

    let expected = without_from_lines(&std::fs::read(&source).unwrap());
    for (place, nothing_since) in [("restored", false), ("same", true)] {
        let place = path(place);
        let mut restore = vec!["restore", text(&copy), "--data", text(&place)];
        restore.extend(nothing_since.then_some("--nothing-since"));
        assert!(done(&restore).contains(" 0 found damaged"));
        refused(&restore, "is not empty");
        for _ in 0..2 {
            let node = Node::start(&place);
            let [validity, next, messages] = status(&node, "INBOX");
            assert_eq!([next, messages], [7, 6]);
            assert_eq!(validity == before[0], nothing_since, "{validity} after {}", before[0]);
            assert!(validity >= before[0]);
            let out = place.with_extension("mbox");
            let export = [&["export", text(&out)], &mail[..]].concat();
            done(&[&export[..], &["--admin", &node.admin.to_string()]].concat());
            assert!(without_from_lines(&std::fs::read(&out).unwrap()) == expected);
            std::fs::remove_file(&out).unwrap();
            // A mailbox that is made after the restore keeps its UIDVALIDITY.
            let mut client = ImapClient::log_in(node.imap, "ida", "secret").unwrap();
            let _ = client.command("CREATE New").unwrap();
            let kept = path(if nothing_since { "new-same" } else { "new" });
            let new = status(&node, "New")[0].to_string();
            match std::fs::read_to_string(&kept) {
                Ok(first) => assert_eq!(first, new),
                Err(_) => std::fs::write(&kept, new).unwrap(),
            }
            assert_eq!(node.stop(), Some(0));
        }
    }

    let snapshot = copy.join("snapshot");
    let mut octets = std::fs::read(&snapshot).unwrap();
    let middle = octets.len() / 2;
    octets[middle] ^= 1;
    std::fs::write(&snapshot, octets).unwrap();
    let place = path("damaged");
    refused(&["restore", text(&copy), "--data", text(&place)], "not as it was written");
    std::fs::remove_file(copy.join("backup.json")).unwrap();
    let place = path("cut");
    refused(&["restore", text(&copy), "--data", text(&place)], "no whole backup");
}

#[test]
fn damaged_rows_are_mended_at_the_start_and_a_damaged_mail_is_named() {
    let folder = scratch();
    let (data, source) = (folder.path().join("data"), folder.path().join("in.mbox"));
    std::fs::write(&source, mbox(&samples())).unwrap();
    let node = Node::start(&data);
    let admin = node.admin.to_string();
    let place = ["--user", "ida", "--mailbox", "INBOX"];
    done(&[&["import", text(&source)], &place[..], &["--admin", &admin]].concat());
    assert_eq!(node.stop(), Some(0));
    let storage = data.join("storage");
    let rows = storage.join("rows.redb");
    let mut octets = std::fs::read(&rows).unwrap();
    octets[8192..].iter_mut().for_each(|octet| *octet ^= 0x55);
    std::fs::write(&rows, octets).unwrap();
    let scrub = ["scrub", "--data", text(&data)];
    assert!(done(&scrub).contains(" 0 found damaged"), "they are made anew before");
    assert!(done(&["check", "--data", text(&data)]).contains(" 0 found damaged"));

    let wanted = b"From the start of a line";
    let mut flipped = 0;
    for entry in std::fs::read_dir(&storage).unwrap() {
        let path = entry.unwrap().path();
        let mut octets = std::fs::read(&path).unwrap();
        if let Some(at) = octets.windows(wanted.len()).position(|part| part == wanted) {
            octets[at] ^= 1;
            std::fs::write(&path, octets).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1, "a mail is stored once");
    let output = postroom(&[&["--json"], &scrub[..]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", said(&output.stderr));
    let printed = said(&output.stdout);
    assert!(printed.contains(r#""kind":"body""#) && printed.contains(r#""found":1"#), "{printed}");
    let output = postroom(&["check", "--data", text(&data)]);
    assert_eq!(output.status.code(), Some(3));
    let printed = said(&output.stdout);
    assert!(printed.contains("message") && printed.contains("1 found damaged"), "{printed}");
    // The others are there.
    let out = folder.path().join("out.mbox");
    let exported =
        postroom(&[&["export", text(&out)], &place[..], &["--data", text(&data)]].concat());
    let printed = said(&exported.stdout) + &said(&exported.stderr);
    assert!(printed.contains("5 messages"), "{printed}");
    let left = std::fs::read(&out).unwrap();
    let subject = |n: &[u8]| left.windows(n.len()).any(|part| part == n);
    assert!(subject(b"Subject: umlauts") && !subject(b"Subject: from"));
}

#[test]
fn a_served_node_knows_its_users_and_nobody_else() {
    let folder = scratch();
    let config = folder.path().join("postroom.toml");
    let data = folder.path().join("data");
    let file = format!(
        "data = {data:?}\n[imap]\nlisten = [\"127.0.0.1:0\"]\nplaintext_login = true\n\
         [lmtp]\nlisten = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"warn\"\n"
    );
    std::fs::write(&config, file).unwrap();
    let node = Served::start(&config);
    let token = data.join("admin-token");
    let door = ["--admin", &node.admin, "--token-file", text(&token)];
    refused(&["user", "list", "--admin", &node.admin], "--token-file");
    let with = |args: &[&str]| done(&[args, &door[..]].concat());
    with(&["domain", "add", "example.org"]);
    with(&["domain", "add", "example.net", "--alias-of", "example.org"]);
    let add = [&["user", "add", "anna@example.org"], &door[..]].concat();
    let added = done_with_input(&add, "correct horse\n");
    assert!(added.status.success(), "{}", said(&added.stderr));
    with(&["user", "add", "office@example.org", "--alias-of", "anna@example.org"]);
    check_refusal(&done_with_input(&add, "again\n"), "exists already");

    let mut mta = LmtpClient::connect(node.lmtp).unwrap();
    let to = ["anna@example.org", "office@example.net", "anna+Work@example.org", "bob@example.org"];
    let replies = mta.deliver(&to, b"Subject: x\r\n\r\ny\r\n").unwrap();
    let codes: Vec<_> = replies.iter().map(|reply| &reply[..3]).collect();
    assert_eq!(codes, ["250", "250", "250", "550"], "{replies:?}");
    assert!(ImapClient::log_in(node.imap, "anna@example.org", "wrong").is_err());
    let mut client =
        ImapClient::log_in(node.imap, "anna@example.org", "\"correct horse\"").unwrap();
    let status = client.command("STATUS INBOX (MESSAGES)").unwrap().lines();
    // The alias means the same mailbox in the same transaction: one copy. No folder Work: INBOX.
    assert_eq!(status, ["* STATUS INBOX (MESSAGES 2)"]);
    assert!(with(&["user", "list"]).contains("office@example.org"));
    with(&["user", "remove", "office@example.org"]);
    let replies = mta.deliver(&["office@example.org"], b"Subject: x\r\n\r\ny\r\n").unwrap();
    assert!(replies[0].starts_with("550"), "{replies:?}");

    // A graceful end: every client hears it.
    node.terminate();
    let goodbye = client.response().unwrap();
    assert!(goodbye.starts_with(b"* BYE"), "{}", said(&goodbye));
    assert!(mta.reply().unwrap().starts_with("421"));
    assert_eq!(node.wait(), Some(0));
}

/// A running `postroom serve`.
struct Served {
    child: std::process::Child,
    imap: std::net::SocketAddr,
    lmtp: std::net::SocketAddr,
    admin: String,
}

impl Served {
    fn start(config: &Path) -> Self {
        use std::io::BufRead;
        let mut child = Command::new(program())
            .args(["--json", "serve", "--config", text(config)])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the node starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        std::io::BufReader::new(stdout).read_line(&mut line).expect("it prints");
        let ready: serde_json::Value = serde_json::from_str(&line).expect(&line);
        let address = |value: &serde_json::Value| value.as_str().expect("an address").to_owned();
        Self {
            imap: address(&ready["imap"][0]).parse().unwrap(),
            lmtp: address(&ready["lmtp"][0]).parse().unwrap(),
            admin: address(&ready["admin"]),
            child,
        }
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    fn wait(mut self) -> Option<i32> {
        eventually("the node stops", || self.child.try_wait().ok().flatten()).code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Fails only when it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The transaction id in a line of the log.
fn transaction(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("transaction")?;
    let id = rest.trim_start_matches(['"', ':', '=']);
    id.get(..32).filter(|id| id.bytes().all(|octet| octet.is_ascii_hexdigit()))
}

#[test]
fn one_call_is_followed_through_the_log_by_its_transaction_id() {
    let folder = scratch();
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    let file = std::fs::File::create(&log).expect("a new file");
    let node = Node::start_logging(&data, &["--log", "debug,wasmtime=warn"], file.into());
    let mut client = ImapClient::log_in(node.imap, "anna", "secret").expect("it logs in");
    let large = samples().pop().expect("there are some");
    assert!(client.append("INBOX", "", &large).expect("it answers").is_ok());
    for command in ["SELECT INBOX", "UID FETCH 1 (FLAGS BODY[])"] {
        assert!(client.command(command).expect("it answers").is_ok(), "{command}");
    }
    assert_eq!(node.stop(), Some(0));

    let log = std::fs::read_to_string(&log).expect("it is text");
    let read =
        log.lines().find(|line| line.contains("storage_read_body") && line.contains("session"));
    let id = read.and_then(transaction).unwrap_or_else(|| panic!("nothing is read in {log}"));
    let way: Vec<&str> = log.lines().filter(|line| transaction(line) == Some(id)).collect();
    // From the innermost out, as they end: what each line says of itself.
    for (what, said) in [
        ("the session", "session"),
        ("the connection's call", "kind"),
        ("the component's verb", "guest_call"),
        ("the read of the body", "storage_read_body"),
    ] {
        assert!(way.iter().any(|line| line.contains(said)), "{what} is missing: {way:#?}");
    }
}
