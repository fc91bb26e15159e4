//! Real mail programs against the real node: curl, mbsync, neomutt, Python's imaplib and smtplib.

use std::path::Path;
use std::process::Command;

use postroom_system::{ImapClient, LmtpClient, Node, scratch};

/// Runs a program to its end and returns its output; a failure shows what it said.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}: `cargo xtask tools` fetches it"));
    let said = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
    assert!(output.status.success(), "{program} {args:?}: {stdout}\n{stderr}");
    stdout
}

fn letter(subject: &str) -> Vec<u8> {
    format!("From: a@example.org\r\nSubject: {subject}\r\n\r\nBody of {subject}.\r\n").into_bytes()
}

#[test]
fn curl_appends_lists_searches_and_reads() {
    let folder = scratch();
    let node = Node::start(folder.path());
    let file = folder.path().join("letter");
    std::fs::write(&file, letter("by curl")).unwrap();
    let user = format!("carl:{}", node.password);
    let url = |path: &str| format!("imap://{}/{path}", node.imap);
    run("curl", &["-sS", "-u", &user, "-T", file.to_str().unwrap(), &url("INBOX")]);
    assert!(run("curl", &["-sS", "-u", &user, &url("")]).contains("INBOX"));
    let found = run("curl", &["-sS", "-u", &user, &url("INBOX?SUBJECT%20curl")]);
    assert_eq!(found.trim(), "* SEARCH 1");
    let text = run("curl", &["-sS", "-u", &user, &url("INBOX;UID=1")]);
    assert_eq!(text.as_bytes(), letter("by curl"));
}

#[test]
fn pythons_imaplib_and_smtplib_make_the_round_trip() {
    let folder = scratch();
    let node = Node::start(folder.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/roundtrip.py");
    let (imap, lmtp) = (node.imap.port().to_string(), node.lmtp.port().to_string());
    run("python3", &[script.to_str().unwrap(), "127.0.0.1", &imap, &lmtp, &node.password]);
}

/// The files of a Maildir: name and text with CRLF line ends.
fn maildir(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for part in ["new", "cur"] {
        for entry in std::fs::read_dir(path.join(part)).unwrap() {
            let entry = entry.unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap().replace('\n', "\r\n");
            files.push((entry.file_name().into_string().unwrap(), text.into_bytes()));
        }
    }
    files
}

/// Without the header field that mbsync adds to what it carries.
fn without_tuid(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.split_inclusive("\r\n").filter(|line| !line.starts_with("X-TUID")).collect()
}

#[test]
fn mbsync_carries_mail_flags_and_folders_both_ways() {
    let folder = scratch();
    let node = Node::start(&folder.path().join("data"));
    let mail = folder.path().join("mail");
    std::fs::create_dir(&mail).unwrap();
    let config = folder.path().join("mbsyncrc");
    let text = format!(
        "IMAPAccount node\nHost 127.0.0.1\nPort {}\nUser mary\nPass {}\nSSLType None\nAuthMechs LOGIN\n\n\
         IMAPStore far\nAccount node\n\nMaildirStore near\nPath {mail}/\nInbox {mail}/INBOX\nSubFolders Verbatim\n\n\
         Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nRemove Both\nExpunge Both\nSync All\nSyncState *\n",
        node.imap.port(),
        node.password,
        mail = mail.display(),
    );
    std::fs::write(&config, text).unwrap();
    let sync = || run("mbsync", &["-c", config.to_str().unwrap(), "-a"]);

    let mut client = ImapClient::log_in(node.imap, "mary", &node.password).unwrap();
    assert!(client.command("CREATE Archive/2026").unwrap().is_ok());
    for subject in ["one", "two", "three"] {
        assert!(client.append("INBOX", "", &letter(subject)).unwrap().is_ok());
    }
    sync();
    let mut texts: Vec<String> =
        maildir(&mail.join("INBOX")).iter().map(|(_, text)| without_tuid(text)).collect();
    texts.sort();
    let mut expected =
        ["one", "two", "three"].map(|s| String::from_utf8(letter(s)).unwrap()).to_vec();
    expected.sort();
    assert_eq!(texts, expected);
    assert!(mail.join("Archive/2026/cur").is_dir());

    // The other way: a flag, a new message, a new folder, and a removal at the server.
    let inbox = mail.join("INBOX");
    let (name, _) =
        maildir(&inbox).into_iter().find(|f| f.1.windows(4).any(|w| w == b"two.")).unwrap();
    let unique = name.split(":2,").next().unwrap();
    let from = if inbox.join("new").join(&name).exists() { "new" } else { "cur" };
    std::fs::rename(inbox.join(from).join(&name), inbox.join("cur").join(format!("{unique}:2,FS")))
        .unwrap();
    std::fs::write(inbox.join("new/local.1"), "From: b@example.org\nSubject: local\n\nhere\n")
        .unwrap();
    for part in ["cur", "new", "tmp"] {
        std::fs::create_dir_all(mail.join("Near").join(part)).unwrap();
    }
    client.command("SELECT INBOX").unwrap();
    assert!(client.command("STORE 1 +FLAGS (\\Deleted)").unwrap().is_ok());
    assert!(client.command("EXPUNGE").unwrap().is_ok());
    sync();
    client.command("NOOP").unwrap();
    let flags = client.command("FETCH 1:* (FLAGS)").unwrap().lines();
    assert!(flags.iter().any(|l| l.contains("\\Flagged") && l.contains("\\Seen")), "{flags:?}");
    let found = client.command("SEARCH SUBJECT local").unwrap().lines();
    assert_eq!(found, ["* SEARCH 3"]);
    let list = client.command("LIST \"\" *").unwrap().lines();
    assert!(list.iter().any(|line| line.ends_with(" Near")), "{list:?}");
    assert_eq!(maildir(&inbox).len(), 3);
}

#[test]
fn neomutt_reads_flags_and_saves() {
    let folder = scratch();
    let node = Node::start(&folder.path().join("data"));
    let mut mta = LmtpClient::connect(node.lmtp).unwrap();
    for subject in ["first", "second"] {
        assert!(mta.deliver(&["nora"], &letter(subject)).unwrap()[0].starts_with("250"));
    }
    let saved = folder.path().join("saved");
    let config = folder.path().join("muttrc");
    let text = format!(
        "set imap_user=nora\nset imap_pass={}\nset ssl_starttls=no\nset ssl_force_tls=no\nset mbox_type=mbox\n\
         set confirmappend=no\nset confirmcreate=no\nset delete=yes\nset quit=yes\nset move=no\nset sort=mailbox-order\nset header_cache=\"\"\n\
         push \"<first-entry><copy-message>{}<enter><first-entry><flag-message><last-entry><delete-message><quit>\"\n",
        node.password,
        saved.display(),
    );
    std::fs::write(&config, text).unwrap();
    let log = folder.path().join("typescript");
    let terminal = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/terminal.py");
    let paths = [&terminal, &log, &config].map(|path| path.to_str().unwrap());
    let seen = || String::from_utf8_lossy(&std::fs::read(&log).unwrap_or_default()).into_owned();
    // A home of its own, for a person's settings are not what is tested, and with the folder in it
    // that neomutt would ask about.
    std::fs::create_dir(folder.path().join("Mail")).unwrap();
    let mut neomutt = Command::new("python3");
    neomutt.args([paths[0], paths[1], "60", "neomutt", "-n", "-F", paths[2]]);
    neomutt.args(["-f", &format!("imap://{}/INBOX", node.imap)]).env("HOME", folder.path());
    let ended = neomutt.status().unwrap();
    assert!(ended.success(), "{ended}: {}", seen());
    let saved = std::fs::read_to_string(saved).unwrap_or_else(|e| panic!("{e}: {}", seen()));
    assert!(saved.contains("Body of first."), "{saved}");
    let mut client = ImapClient::log_in(node.imap, "nora", &node.password).unwrap();
    client.command("SELECT INBOX").unwrap();
    let flags = client.command("FETCH 1:* (FLAGS)").unwrap().lines();
    assert_eq!(flags.len(), 1, "the second is expunged: {flags:?}");
    assert!(flags[0].contains("\\Flagged"), "{flags:?}");
}
