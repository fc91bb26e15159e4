//! Two sessions on one mailbox: each sees what the other does, when it may.

use proptest::prelude::*;

use super::*;

#[test]
fn flags_and_arrivals_are_told_at_the_next_command() {
    selected(2).script(
        "C: a STORE 2 +FLAGS (\\Flagged)
         S: * 2 FETCH (FLAGS (\\Flagged \\Recent))
         S: a OK STORE completed
         C: b APPEND INBOX {5+}<CRLF>hello
         S: * 4 EXISTS
         S: * 4 RECENT
         S: b OK ...
         C2: c NOOP
         S2: * 4 EXISTS
         S2: * 0 RECENT
         S2: * 2 FETCH (FLAGS (\\Flagged))
         S2: c OK NOOP completed
         C2: d NOOP
         S2: d OK NOOP completed",
    );
}

#[test]
fn an_expunge_is_held_while_numbers_are_in_use() {
    selected(2).script(
        "C: a STORE 1 +FLAGS.SILENT (\\Deleted)
         S: a OK ...
         C: b EXPUNGE
         S: * 1 EXPUNGE
         S: b OK EXPUNGE completed
         C2: c FETCH 1 (UID BODY.PEEK[TEXT])
         S2: * 1 FETCH (UID 1 BODY[TEXT] {11}
         S2: Hello one
         S2: )
         S2: c OK FETCH completed
         C2: d STORE 1:2 +FLAGS (\\Seen)
         S2: * 2 FETCH (FLAGS (\\Seen))
         S2: d OK [EXPUNGEISSUED] some messages were expunged meanwhile
         C2: e SEARCH ALL
         S2: * SEARCH 2 3
         S2: e OK ...
         C2: f COPY 1 INBOX
         S2: * 1 EXPUNGE
         S2: f NO [EXPUNGEISSUED] ...
         C2: g FETCH 1 UID
         S2: * 1 FETCH (UID 2)
         S2: g OK ...
         C2: h FETCH 3 UID
         S2: h BAD no message has such a number",
    );
}

#[test]
fn uid_commands_tell_expunges() {
    let expunge = "C: a STORE 1 +FLAGS.SILENT (\\Deleted)
         S: a OK ...
         C: b UID EXPUNGE 1
         S: * 1 EXPUNGE
         S: b OK ...\n";
    selected(2).script(&format!(
        "{expunge}
         C2: c UID FETCH 2 UID
         S2: * 2 FETCH (UID 2)
         S2: * 1 EXPUNGE
         S2: c OK ..."
    ));
    selected(2).script(&format!(
        "{expunge}
         C2: c UID SEARCH ALL
         S2: * SEARCH 2 3
         S2: * 1 EXPUNGE
         S2: c OK ..."
    ));
    selected(2).script(&format!(
        "{expunge}
         C2: c STATUS INBOX (MESSAGES)
         S2: * STATUS INBOX (MESSAGES 2)
         S2: * 1 EXPUNGE
         S2: c OK ..."
    ));
}

#[test]
fn a_body_that_is_gone_after_all_is_an_expunge_issued() {
    let mut server = selected(2);
    server.script(
        "C: a STORE 1 +FLAGS.SILENT (\\Deleted)
         S: a OK ...
         C: b EXPUNGE
         S: * 1 EXPUNGE
         S: b OK ...",
    );
    // A node that took the account over need not have what was held for a view.
    server.store.forget_removed();
    server.script(
        "C2: c FETCH 1:2 UID
         S2: * 2 FETCH (UID 2)
         S2: c NO [EXPUNGEISSUED] some messages were expunged meanwhile",
    );
}

#[test]
fn idle_tells_at_once() {
    selected(2).script(
        "C2: i IDLE
         S2: + idling
         C: a APPEND INBOX {5+}<CRLF>hello
         S: * 4 EXISTS
         S: * 4 RECENT
         S: a OK ...
         S2: * 4 EXISTS
         S2: * 0 RECENT
         C: b STORE 1,4 +FLAGS (\\Deleted)
         S: * 1 FETCH (FLAGS (\\Deleted \\Recent))
         S: * 4 FETCH (FLAGS (\\Deleted \\Recent))
         S: b OK ...
         S2: * 1 FETCH (FLAGS (\\Deleted))
         S2: * 4 FETCH (FLAGS (\\Deleted))
         C: c EXPUNGE
         S: * 4 EXPUNGE
         S: * 1 EXPUNGE
         S: c OK ...
         S2: * 4 EXPUNGE
         S2: * 1 EXPUNGE
         C2: done
         S2: i OK IDLE completed",
    );
}

#[test]
fn idle_needs_no_mailbox_and_ends_with_done_only() {
    check(
        "C: a IDLE
         S: + idling
         C: NOOP
         S: a BAD IDLE ends with DONE
         C: b NOOP
         S: b OK ...
         C: c IDLE<CRLF>DONE<CRLF>d NOOP
         S: + idling
         S: c OK ...
         S: d OK ...",
    );
}

#[test]
fn a_silent_store_shows_what_others_have_changed() {
    selected(2).script(
        "C: a STORE 1 +FLAGS.SILENT (\\Seen)
         S: a OK STORE completed
         C2: b STORE 1 +FLAGS.SILENT (\\Flagged)
         S2: * 1 FETCH (FLAGS (\\Seen))
         S2: * 1 FETCH (FLAGS (\\Flagged \\Seen))
         S2: b OK STORE completed
         C: c STORE 1 -FLAGS.SILENT (\\Seen)
         S: * 1 FETCH (FLAGS (\\Flagged \\Seen \\Recent))
         S: * 1 FETCH (FLAGS (\\Flagged \\Recent))
         S: c OK STORE completed
         C: d NOOP
         S: d OK ...
         C: e STORE 1 FLAGS.SILENT (\\Draft)
         S: e OK ...
         C: f FETCH 1 FLAGS
         S: * 1 FETCH (FLAGS (\\Draft \\Recent))
         S: f OK ...",
    );
}

#[test]
fn new_keywords_are_announced() {
    selected(2).script(
        "C: a STORE 1 +FLAGS (work)
         S: * FLAGS (... work)
         S: * OK [PERMANENTFLAGS (... work \\*)] New keywords
         S: * 1 FETCH (FLAGS (\\Recent work))
         S: a OK ...
         C2: b FETCH 1 FLAGS
         S2: * FLAGS (... work)
         S2: * OK [PERMANENTFLAGS (... work \\*)] New keywords
         S2: * 1 FETCH (FLAGS (work))
         S2: b OK ...",
    );
}

#[test]
fn what_was_told_as_expunged_is_let_go() {
    let mut server = selected(2);
    server.script(
        "C: a STORE 1 +FLAGS.SILENT (\\Deleted)
         S: a OK ...
         C: b EXPUNGE
         S: * 1 EXPUNGE
         S: b OK ...
         C2: c NOOP
         S2: * 1 EXPUNGE
         S2: c OK ...
         C2: d IDLE
         S2: + idling
         C: e IDLE
         S: + idling",
    );
    assert_eq!(server.store.readable_removed(), 0);
}

#[test]
fn shutdown_lets_the_running_command_end() {
    let mut server = selected(1);
    let session = &mut server.clients[0].session;
    session.input(Millis(0), Input::Octets(b"a STORE 1 +FLAGS (\\Seen)\r\nb NOOP\r\n"));
    let Some(Action::Call(call)) = session.action() else { panic!("the STORE") };
    session.input(Millis(0), Input::ShuttingDown);
    assert!(session.action().is_none(), "the call is outstanding");
    let answer = server.store.call(0, call);
    session.input(Millis(0), Input::Answer(answer));
    server.perform(0);
    server.script(
        "S: * 1 FETCH (FLAGS (\\Seen \\Recent))
         S: a OK STORE completed
         S: * BYE [UNAVAILABLE] the server shuts down
         S: <closed>",
    );
}

/// A client that believes what it reads: the flags of each message by its number.
struct Believer {
    messages: Vec<Option<String>>,
    /// It computes what its silent STORE does when it sends it, not when it is answered.
    eager: bool,
}

impl Believer {
    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let Some(number) = words.get(1).and_then(|word| word.parse::<usize>().ok()) else { return };
        match words[2] {
            "EXISTS" => {
                assert!(number >= self.messages.len());
                self.messages.resize(number, None);
            }
            "EXPUNGE" => drop(self.messages.remove(number - 1)),
            "FETCH" => {
                let flags = line.split_once("FLAGS (").and_then(|(_, rest)| rest.split_once(')'));
                if let Some((flags, _)) = flags {
                    let flags = flags.replace("\\Recent", "").trim().to_owned();
                    self.messages[number - 1] = Some(flags);
                }
            }
            _ => {}
        }
    }

    /// What it computes by itself when its STORE is silent.
    fn silent(&mut self, number: usize, flag: &str, add: bool) {
        let Some(Some(flags)) = self.messages.get_mut(number - 1) else { return };
        let kept = flags.split(' ').filter(|known| *known != flag);
        let set = crate::types::Flags::of(
            kept.chain(add.then_some(flag)).filter_map(crate::types::Flag::parse),
        );
        *flags = set.iter().map(|flag| flag.to_string()).collect::<Vec<_>>().join(" ");
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Append,
    Store { message: usize, flag: &'static str, add: bool, silent: bool, uid: bool },
    Expunge,
    Noop,
    Fetch,
    Search,
    Move,
}

fn deed() -> impl Strategy<Value = (usize, Deed)> {
    let flag = prop_oneof![Just("\\Deleted"), Just("\\Seen"), Just("\\Flagged")];
    let store = (any::<usize>(), flag, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(message, flag, add, silent, uid)| Deed::Store { message, flag, add, silent, uid },
    );
    let deed = prop_oneof![
        2 => Just(Deed::Append),
        6 => store,
        2 => Just(Deed::Expunge),
        2 => Just(Deed::Noop),
        1 => Just(Deed::Fetch),
        1 => Just(Deed::Search),
        1 => Just(Deed::Move),
    ];
    (0..2usize, deed)
}

proptest! {
    /// Whatever two sessions do to one mailbox, in whatever order, with or without the owner's hint
    /// that something happened: each client always numbers as its server does, and after a NOOP
    /// both know all flags, though neither ever asks for any but those of new messages.
    #[test]
    fn two_sessions_agree_in_the_end(
        deeds in prop::collection::vec(deed(), 0..30),
        eager in any::<[bool; 2]>(),
        hints in any::<bool>(),
    ) {
        let mut server = Server::new();
        server.hints = hints;
        let mut clients = eager.map(|eager| Believer { messages: Vec::new(), eager });
        for client in 0..2 {
            say(&mut server, &mut clients, client, "SELECT INBOX");
        }
        for (client, deed) in deeds.into_iter().chain([(0, Deed::Noop), (1, Deed::Noop)]) {
            learn_new(&mut server, &mut clients, client);
            let count = clients[client].messages.len();
            match deed {
                Deed::Append => say(&mut server, &mut clients, client, "APPEND INBOX {2+}\r\nhi"),
                Deed::Store { message, flag, add, silent, uid } if count > 0 => {
                    let number = message % count + 1;
                    let target = match uid {
                        true => server.clients[client].session.active().unwrap().view
                            .uid_at(number as u32).unwrap().get(),
                        false => number as u32,
                    };
                    let eager = clients[client].eager;
                    if silent && eager {
                        clients[client].silent(number, flag, add);
                    }
                    let (uid, sign) = (if uid { "UID " } else { "" }, if add { '+' } else { '-' });
                    let dot = if silent { ".SILENT" } else { "" };
                    let text = format!("{uid}STORE {target} {sign}FLAGS{dot} ({flag})");
                    let known = &server.clients[client].session.active().unwrap().view;
                    let uid = known.uid_at(number as u32).unwrap();
                    say(&mut server, &mut clients, client, &text);
                    let known = &server.clients[client].session.active().unwrap().view;
                    if let (true, false, Some(number)) = (silent, eager, known.sequence_of(uid)) {
                        clients[client].silent(number as usize, flag, add);
                    }
                }
                Deed::Fetch if count > 0 => say(&mut server, &mut clients, client, "FETCH 1 FLAGS"),
                Deed::Move if count > 0 => say(&mut server, &mut clients, client, "MOVE 1 INBOX"),
                Deed::Search => say(&mut server, &mut clients, client, "SEARCH ALL"),
                Deed::Expunge => say(&mut server, &mut clients, client, "EXPUNGE"),
                Deed::Noop => say(&mut server, &mut clients, client, "NOOP"),
                Deed::Store { .. } | Deed::Fetch | Deed::Move => {}
            }
        }
        for client in 0..2 {
            say(&mut server, &mut clients, client, "NOOP");
            learn_new(&mut server, &mut clients, client);
            let truth = server.store.flags_of(&MailboxName::inbox());
            let known: Vec<String> = clients[client].messages.iter().flatten().cloned().collect();
            prop_assert_eq!(known, truth);
        }
    }
}

/// Sends a command and lets the client believe the answer.
fn say(server: &mut Server, clients: &mut [Believer; 2], client: usize, command: &str) {
    server.send(client, format!("t {command}\r\n").as_bytes());
    let mut last = String::new();
    while let Some(line) = server.read(client) {
        clients[client].hear(&line);
        last = line;
    }
    assert!(last.starts_with("t OK") || last.starts_with("t NO"), "{command}: {last}");
    let view = &server.clients[client].session.active().unwrap().view;
    assert_eq!(view.exists() as usize, clients[client].messages.len(), "after {command}");
}

/// Asks for the flags of messages that the client knows nothing of.
fn learn_new(server: &mut Server, clients: &mut [Believer; 2], client: usize) {
    let count = clients[client].messages.len();
    let unknown = clients[client].messages.iter().position(Option::is_none);
    if let Some(first) = unknown {
        say(server, clients, client, &format!("FETCH {}:* FLAGS", first + 1));
    }
    // Gone before they were asked for: their EXPUNGE is due.
    for message in clients[client].messages.iter_mut().take(count) {
        message.get_or_insert_default();
    }
}
