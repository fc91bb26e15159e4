//! The operations of suite `read`: their commands, and what design 8 asks of them. Each leaves the
//! mailboxes as it found them, so that it can be repeated for any time.

use crate::report::Goal;

/// A command of an operation.
pub struct Step {
    /// The command; it must end OK.
    pub command: String,
    /// Untagged responses that it must have at least.
    pub responses: u64,
    /// Counted and timed; otherwise it only prepares or tidies up.
    pub measured: bool,
}

/// What is done, on which connection.
pub enum Act {
    /// On one that has INBOX selected, and has it selected again afterwards.
    Selected(Vec<Step>),
    /// On one that has nothing selected.
    Unselected(Vec<Step>),
    /// A new connection each.
    LogIn,
}

/// An operation.
pub struct Operation {
    /// What it is called.
    pub name: String,
    /// How many times as fast as Dovecot (sdbox) it is to be.
    pub goal: Option<Goal>,
    /// What is done.
    pub act: Act,
}

fn measured(command: impl Into<String>, responses: u64) -> Step {
    Step { command: command.into(), responses, measured: true }
}

fn beside(command: impl Into<String>) -> Step {
    Step { command: command.into(), responses: 0, measured: false }
}

fn operation(name: impl Into<String>, times: f64, act: Act) -> Operation {
    Operation { name: name.into(), goal: Some(Goal::times(times)), act }
}

/// A command on the selected mailbox.
fn command(command: &str, times: f64, responses: u64) -> Operation {
    operation(command, times, Act::Selected(vec![measured(command, responses)]))
}

/// All of them, for a mailbox of so many messages, of which `transfer` are copied or moved at once.
pub fn operations(messages: u64, transfer: u64, mailboxes: u64) -> Vec<Operation> {
    let mut operations = vec![
        command("FETCH 1:* (FLAGS)", 3.0, messages),
        command("FETCH 1:* (ENVELOPE)", 3.0, messages),
        command("FETCH 1:* (BODY.PEEK[])", 2.0, messages),
    ];
    operations.extend(stores());
    operations.extend(transfers(transfer));
    operations.push(operation("LOGIN", 3.0, Act::LogIn));
    let status = measured("STATUS INBOX (MESSAGES UNSEEN UIDNEXT)", 1);
    operations.push(operation("STATUS", 1.0, Act::Unselected(vec![status])));
    let list = "LIST \"\" \"*\" RETURN (STATUS (MESSAGES UNSEEN))";
    let name = format!("LIST-STATUS of {mailboxes} mailboxes");
    let list = measured(list, mailboxes * 2);
    operations.push(operation(name, 3.0, Act::Unselected(vec![list])));
    operations.push(command("SEARCH SUBJECT nothing-like-it", 5.0, 1));
    operations.push(command("SEARCH BODY nothing-like-it", 3.0, 1));
    operations.push(Operation { goal: None, ..command("NOOP", 0.0, 0) });
    operations
}

fn stores() -> [Operation; 2] {
    let all = vec![
        measured("STORE 1:* +FLAGS.SILENT (\\Flagged)", 0),
        measured("STORE 1:* -FLAGS.SILENT (\\Flagged)", 0),
    ];
    let one = vec![
        measured("STORE 1 +FLAGS (\\Answered)", 1),
        measured("STORE 1 -FLAGS (\\Answered)", 1),
    ];
    [
        operation("STORE 1:* ±FLAGS.SILENT", 0.3, Act::Selected(all)),
        operation("STORE of one message", 1.0, Act::Selected(one)),
    ]
}

fn transfers(count: u64) -> [Operation; 3] {
    let copy = vec![
        measured(format!("COPY 1:{count} Copies"), 0),
        beside("DELETE Copies"),
        beside("CREATE Copies"),
    ];
    // There and back again.
    let moves = vec![
        beside("SELECT Left"),
        measured("MOVE 1:* Right", count),
        beside("SELECT Right"),
        measured("MOVE 1:* Left", count),
        beside("SELECT INBOX"),
    ];
    let expunge = vec![
        beside(format!("COPY 1:{count} Bin")),
        beside("SELECT Bin"),
        beside("STORE 1:* +FLAGS.SILENT (\\Deleted)"),
        measured("EXPUNGE", count),
        beside("SELECT INBOX"),
    ];
    [
        operation(format!("COPY of {count}"), 3.0, Act::Selected(copy)),
        operation(format!("MOVE of {count}"), 3.0, Act::Selected(moves)),
        operation(format!("EXPUNGE of {count}"), 3.0, Act::Selected(expunge)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_measures_something_and_comes_back_to_inbox() {
        for operation in operations(10_000, 1_000, 10) {
            let (Act::Selected(steps) | Act::Unselected(steps)) = &operation.act else { continue };
            assert!(steps.iter().any(|step| step.measured), "{}", operation.name);
            let mut selects = steps.iter().filter(|step| step.command.starts_with("SELECT"));
            assert!(selects.next_back().is_none_or(|last| last.command == "SELECT INBOX"));
        }
    }
}
