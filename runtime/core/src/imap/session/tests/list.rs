//! LIST and LSUB.

use super::*;

const FOLDERS: &str = "C: x CREATE Work/2024
    S: x OK [MAILBOXID (F...)] CREATE completed
    C: x CREATE Sent (USE (\\Sent))
    S: x OK ...
    C: x SUBSCRIBE Work/2024
    S: x OK SUBSCRIBE completed
    C: x SUBSCRIBE Gone
    S: x OK SUBSCRIBE completed\n";

#[track_caller]
fn check_folders(script: &str) {
    check(&format!("{FOLDERS}{script}"));
}

#[test]
fn list_names_mailboxes_with_their_children() {
    check_folders(
        "C: a LIST \"\" *
         S: * LIST (\\HasNoChildren) \"/\" INBOX
         S: * LIST (\\HasNoChildren \\Sent) \"/\" Sent
         S: * LIST (\\HasChildren) \"/\" Work
         S: * LIST (\\HasNoChildren) \"/\" Work/2024
         S: a OK LIST completed
         C: b LIST \"\" %
         S: * LIST ... INBOX
         S: * LIST ... Sent
         S: * LIST ... Work
         S: b OK ...
         C: c LIST Work/ %
         S: * LIST ... Work/2024
         S: c OK ...
         C: d LIST \"\" inbox
         S: * LIST ... INBOX
         S: d OK ...
         C: e LIST \"\" \"\"
         S: * LIST (\\Noselect) \"/\" \"\"
         S: e OK ...
         C: f LIST \"\" nothing
         S: f OK ...",
    );
}

#[test]
fn a_deleted_parent_is_still_a_level() {
    check_folders(
        "C: a DELETE Work
         S: a OK DELETE completed
         C: b LIST \"\" W*
         S: * LIST (\\NonExistent \\Noselect \\HasChildren) \"/\" Work
         S: * LIST (\\HasNoChildren) \"/\" Work/2024
         S: b OK ...
         C: c LIST \"\" Work RETURN (CHILDREN)
         S: * LIST (\\NonExistent \\HasChildren) \"/\" Work
         S: c OK ...",
    );
}

#[test]
fn extended_list_selects_and_returns() {
    check_folders(
        "C: a LIST (SUBSCRIBED) \"\" *
         S: * LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" Gone
         S: * LIST (\\HasNoChildren \\Subscribed) \"/\" Work/2024
         S: a OK ...
         C: b LIST (SUBSCRIBED RECURSIVEMATCH) \"\" %
         S: * LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" Gone
         S: * LIST (\\HasChildren) \"/\" Work (\"CHILDINFO\" (\"SUBSCRIBED\"))
         S: b OK ...
         C: b LIST (SUBSCRIBED RECURSIVEMATCH) \"\" W*
         S: * LIST (\\HasNoChildren \\Subscribed) \"/\" Work/2024
         S: b OK ...
         C: c LIST \"\" (Sent Work/%) RETURN (SUBSCRIBED CHILDREN)
         S: * LIST (\\HasNoChildren \\Sent) \"/\" Sent
         S: * LIST (\\HasNoChildren \\Subscribed) \"/\" Work/2024
         S: c OK ...
         C: d LIST (SPECIAL-USE) \"\" *
         S: * LIST (\\HasNoChildren \\Sent) \"/\" Sent
         S: d OK ...",
    );
}

#[test]
fn list_with_status_saves_the_round_trips() {
    check_folders(
        "C: a LIST \"\" (INBOX Sent) RETURN (STATUS (MESSAGES UNSEEN))
         S: * LIST (\\HasNoChildren) \"/\" INBOX
         S: * STATUS INBOX (MESSAGES 3 UNSEEN 3)
         S: * LIST (\\HasNoChildren \\Sent) \"/\" Sent
         S: * STATUS Sent (MESSAGES 0 UNSEEN 0)
         S: a OK LIST completed
         C: b LIST (SUBSCRIBED) \"\" * RETURN (STATUS (MESSAGES))
         S: * LIST ... Gone
         S: * LIST ... Work/2024
         S: * STATUS Work/2024 (MESSAGES 0)
         S: b OK ...",
    );
}

#[test]
fn a_mailbox_that_vanishes_under_list_has_no_status() {
    let mut server = Server::new();
    let gone = crate::error::StoreError::NotFound("INBOX".into());
    server.store.fails = Some(("Status", gone));
    server.script(
        "C: a LIST \"\" * RETURN (STATUS (MESSAGES))
         S: * LIST ... INBOX
         S: a OK LIST completed",
    );
}

#[test]
fn lsub_names_subscriptions_and_the_levels_above() {
    check_folders(
        "C: a LSUB \"\" *
         S: * LSUB () \"/\" Gone
         S: * LSUB () \"/\" Work/2024
         S: a OK LSUB completed
         C: b LSUB \"\" %
         S: * LSUB () \"/\" Gone
         S: * LSUB (\\Noselect) \"/\" Work
         S: b OK LSUB completed
         C: c UNSUBSCRIBE Gone
         S: c OK UNSUBSCRIBE completed
         C: d LSUB \"\" G*
         S: d OK ...",
    );
}

#[test]
fn a_pattern_that_no_name_can_match_is_no_mistake() {
    check(
        "C: a LIST \"\" !#$&'+,-.0123456789:;<=>?@^_`|[}%*
         S: a OK LIST completed
         C: b LIST \"\" (&x INBOX) RETURN (CHILDREN)
         S: * LIST (\\HasNoChildren) \"/\" INBOX
         S: b OK LIST completed
         C: c LIST & *
         S: c OK LIST completed
         C: d LSUB \"\" &
         S: d OK LSUB completed
         C: e LIST \"\" \"\u{e9}*\"
         S: e OK LIST completed
         C: f STATUS &x (MESSAGES)
         S: f NO [CANNOT] a mailbox name is written in modified UTF-7...",
    );
}

#[test]
fn names_travel_in_modified_utf7() {
    check(
        "C: a CREATE Entw&APw-rfe
         S: a OK ...
         C: b LIST \"\" E*
         S: * LIST (\\HasNoChildren) \"/\" Entw&APw-rfe
         S: b OK ...",
    );
}
