//! What each command does.

use std::io::{IsTerminal, Read};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::args::{Cli, Command, DomainCommand, Door, MailboxCommand, StoreCommand, UserCommand};
use super::local::Local;
use super::operator::{CheckLine, Operator};
use super::output::Output;
use super::remote::Remote;
use super::{backup, cluster, config, deploy, dev, logs, serve, store_check, transfer};
use crate::front::admin::wire::NewUser;
use crate::guest::{
    self, ComponentFrom, ComponentSource, Host, HostConfig, Keys, PublicKey, SignedBy,
};

/// Exit code of a check or a scrub that found damage.
pub const DAMAGE: u8 = 3;
/// Longest password, in octets: bounds what hashing is fed.
const MAX_PASSWORD_OCTETS: u64 = 1024;

/// Performs a command.
pub fn perform(cli: Cli) -> Result<ExitCode> {
    let output = Output { json: cli.json };
    match cli.command {
        Command::Dev(args) => dev::run(args, &output)?,
        Command::Serve { config } => serve::run(&config, &output)?,
        Command::Config => print!("{}", config::DEFAULT_FILE),
        Command::Import { source, mail, door } => {
            with(&door, |operator| transfer::import(operator, &source, &mail, &output))?;
        }
        Command::Export { out, format, mail, door } => {
            with(&door, |operator| transfer::export(operator, &out, format, &mail, &output))?;
        }
        Command::User { command } => user(command, &output)?,
        Command::Domain { command } => domain(command, &output)?,
        Command::Mailbox { command } => mailbox(command, &output)?,
        Command::Check { repair, door } => return check(repair, &door, &output),
        Command::Scrub { door } => return scrub(&door, &output),
        Command::Backup { out, door } => {
            with(&door, |operator| backup::backup(operator, &out, &output))?;
        }
        Command::Restore { backup, data, nothing_since } => {
            return backup::restore(&backup, &data, nothing_since, &output);
        }
        Command::Cluster { command } => cluster::perform(command, &output)?,
        Command::Store { command: StoreCommand::Inspect { file, keys } } => {
            inspect(file.as_deref(), keys, &output)?;
        }
        Command::Store { command: StoreCommand::Check(args) } => {
            return store_check::run(&args, &output);
        }
        Command::Store { command: StoreCommand::Deploy(args) } => deploy::deploy(&args, &output)?,
        Command::Store { command: StoreCommand::Status { store, watch, door } } => {
            deploy::status(store.as_deref(), watch, &door, &output)?;
        }
        Command::Store { command: StoreCommand::Commit { store, door } } => {
            deploy::commit(&store, &door, &output)?;
        }
        Command::Store { command: StoreCommand::Rollback { store, door } } => {
            deploy::roll_back(&store, &door, &output)?;
        }
        Command::Store { command: StoreCommand::Forget(args) } => deploy::forget(&args, &output)?,
        Command::Store { command: StoreCommand::Logs { store, follow, node, door } } => {
            logs::logs(&store, node.as_deref(), follow, &door, &output)?;
        }
        Command::Store { command: StoreCommand::History { store, door } } => {
            deploy::history(store.as_deref(), &door, &output)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the door, does the work, closes it.
fn with<T>(door: &Door, work: impl FnOnce(&mut dyn Operator) -> Result<T>) -> Result<T> {
    let mut operator: Box<dyn Operator> = match (&door.choice.admin, &door.choice.data) {
        (Some(address), _) => Box::new(Remote::new(*address, door.token_file.as_deref())?),
        (None, Some(data)) => Box::new(Local::open(data)?),
        (None, None) => bail!("name a running node with --admin or its folder with --data"),
    };
    let result = work(&mut *operator);
    let closed = operator.close();
    let value = result?;
    closed.map(|()| value)
}

fn user(command: UserCommand, output: &Output) -> Result<()> {
    match command {
        UserCommand::Add { name, quota, alias_of, door } => {
            let password = if alias_of.is_some() { None } else { Some(read_password()?) };
            let user = NewUser { name, password, alias_of, quota_octets: quota };
            let line = with(&door, |operator| operator.add_user(user))?;
            output.result(&line, || format!("added {}", line.name))
        }
        UserCommand::Password { name, door } => {
            let password = read_password()?;
            with(&door, |operator| operator.set_password(&name, &password))?;
            output.result(&serde_json::json!({ "name": name }), || format!("changed {name}"))
        }
        UserCommand::List { door } => {
            let lines = with(&door, |operator| operator.users())?;
            output.rows(&["NAME", "ACCOUNT", "ALIAS OF", "QUOTA"], &lines, |line| {
                let quota = line.quota_octets.map_or("-".into(), |octets| octets.to_string());
                let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
                let (account, alias) = (or_none(&line.account), or_none(&line.alias_of));
                vec![line.name.clone(), account, alias, quota]
            })
        }
        UserCommand::Remove { name, door } => {
            with(&door, |operator| operator.remove_user(&name))?;
            output.result(&serde_json::json!({ "name": name }), || format!("removed {name}"))
        }
    }
}

/// A password from standard input: its first line, or all of it when it has no line end.
fn read_password() -> Result<String> {
    if std::io::stdin().is_terminal() {
        eprintln!("password (shown as you type; end with Enter):");
        let mut line = String::new();
        std::io::stdin().read_line(&mut line).context("cannot read the password")?;
        return checked_password(&line);
    }
    let mut text = String::new();
    let mut input = std::io::stdin().take(MAX_PASSWORD_OCTETS + 2);
    input.read_to_string(&mut text).context("cannot read the password from standard input")?;
    checked_password(&text)
}

fn checked_password(text: &str) -> Result<String> {
    let password = text.lines().next().unwrap_or("");
    if password.is_empty() {
        bail!("no password came on standard input");
    }
    if password.len() as u64 > MAX_PASSWORD_OCTETS {
        bail!("a password has at most {MAX_PASSWORD_OCTETS} octets");
    }
    Ok(password.to_owned())
}

fn domain(command: DomainCommand, output: &Output) -> Result<()> {
    match command {
        DomainCommand::Add { name, alias_of, door } => {
            let line = with(&door, |operator| operator.add_domain(&name, alias_of.as_deref()))?;
            output.result(&line, || format!("added {}", line.name))
        }
        DomainCommand::List { door } => {
            let lines = with(&door, |operator| operator.domains())?;
            output.rows(&["NAME", "ALIAS OF"], &lines, |line| {
                vec![line.name.clone(), line.alias_of.clone().unwrap_or_else(|| "-".into())]
            })
        }
        DomainCommand::Remove { name, door } => {
            with(&door, |operator| operator.remove_domain(&name))?;
            output.result(&serde_json::json!({ "name": name }), || format!("removed {name}"))
        }
    }
}

fn mailbox(command: MailboxCommand, output: &Output) -> Result<()> {
    match command {
        MailboxCommand::List { user, door } => {
            let lines = with(&door, |operator| operator.mailboxes(&user))?;
            let heads = ["NAME", "MESSAGES", "UNSEEN", "OCTETS", "USE"];
            output.rows(&heads, &lines, |line| {
                let special_use = line.special_use.clone().unwrap_or_else(|| "-".into());
                let counts = [u64::from(line.messages), u64::from(line.unseen), line.size];
                let mut cells = vec![line.name.clone()];
                cells.extend(counts.map(|count| count.to_string()));
                cells.push(special_use);
                cells
            })
        }
        MailboxCommand::Where { user, door } => cluster::place(&user, &door, output),
        MailboxCommand::Show { mailbox, user, door } => {
            let lines = with(&door, |operator| operator.mailboxes(&user))?;
            let Some(line) = lines.iter().find(|line| line.name == mailbox) else {
                bail!("{user} has no mailbox {mailbox:?}; `postroom mailbox list` shows them");
            };
            output.result(line, || {
                let facts = [
                    ("name", line.name.clone()),
                    ("id", line.id.clone()),
                    ("special use", line.special_use.clone().unwrap_or_else(|| "-".into())),
                    ("messages", line.messages.to_string()),
                    ("unseen", line.unseen.to_string()),
                    ("recent", line.recent.to_string()),
                    ("deleted", line.deleted.to_string()),
                    ("octets", line.size.to_string()),
                    ("UIDNEXT", line.uid_next.to_string()),
                    ("UIDVALIDITY", line.uid_validity.to_string()),
                    ("HIGHESTMODSEQ", line.highest_modseq.to_string()),
                ];
                let line = |(name, value): &(&str, String)| format!("{name:<14} {value}");
                facts.iter().map(line).collect::<Vec<_>>().join("\n")
            })
        }
    }
}

fn check(repair: bool, door: &Door, output: &Output) -> Result<ExitCode> {
    let found = Findings::of("checking", output, |take| {
        with(door, |operator| operator.check(repair, take))
    })?;
    found.tell("checked", "records checked", output)
}

fn scrub(door: &Door, output: &Output) -> Result<ExitCode> {
    let found =
        Findings::of("scrubbing", output, |take| with(door, |operator| operator.scrub(take)))?;
    found.tell("octets", "octets read", output)
}

/// What a check or a scrub has found.
#[derive(Default)]
pub struct Findings {
    looked_at: u64,
    found: u64,
    repaired: u64,
}

impl Findings {
    /// Prints what is found while work goes on.
    pub fn of(
        doing: &'static str,
        output: &Output,
        work: impl FnOnce(&mut dyn FnMut(CheckLine)) -> Result<()>,
    ) -> Result<Self> {
        let (progress, mut all) = (output.progress(doing, 0), Self::default());
        work(&mut |line| match line {
            CheckLine::Checked(more) => {
                all.looked_at += more;
                progress.add(more);
            }
            CheckLine::LeftOut(count) => all.found += count,
            CheckLine::Finding(line) => {
                all.found += 1;
                all.repaired += u64::from(line.repaired);
                let whose = line.account.clone().unwrap_or_else(|| "directory".into());
                let mended = if line.repaired { " (mended)" } else { "" };
                let text =
                    || format!("{} {} of {whose}: {}{mended}", line.kind, line.name, line.problem);
                // Printing fails only when nobody reads any more; the exit code still tells.
                let _ = output.result(&line, text);
            }
        })?;
        progress.finish();
        Ok(all)
    }

    /// Prints the sum; the exit code says whether damage is left.
    pub fn tell(&self, field: &str, looked_at: &str, output: &Output) -> Result<ExitCode> {
        let Self { looked_at: count, found, repaired } = self;
        let summary = serde_json::json!({ field: count, "found": found, "repaired": repaired });
        output.result(&summary, || {
            format!("{count} {looked_at}, {found} found damaged, {repaired} mended")
        })?;
        Ok(if found > repaired { ExitCode::from(DAMAGE) } else { ExitCode::SUCCESS })
    }
}

/// What a component file says, and who signed it.
#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    inspection: guest::Inspection,
    signed: Option<SignedBy>,
}

fn inspect(file: Option<&std::path::Path>, keys: Vec<PublicKey>, output: &Output) -> Result<()> {
    let keys = Keys::try_from(keys).map_err(anyhow::Error::msg)?;
    let source = match file {
        Some(file) => ComponentSource {
            name: file.display().to_string(),
            from: ComponentFrom::File(file.to_owned()),
        },
        None => guest::default_store(),
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
    let host = Host::new(HostConfig::default()).context("cannot start the WebAssembly engine")?;
    let inspected = async {
        let octets = host.read(&source).await?;
        let inspection = guest::inspect(&octets)?;
        let signed = match file {
            Some(file) => keys.check_file(file, &octets).await?,
            None => None,
        };
        Ok::<_, guest::LoadError>(Inspected { inspection, signed })
    };
    let inspected = runtime.block_on(inspected).with_context(|| source.name.clone())?;
    output.result(&inspected, || describe(&inspected))
}

/// A component in words.
fn describe(Inspected { inspection, signed }: &Inspected) -> String {
    let mut lines = Vec::new();
    if let Some(manifest) = &inspection.manifest {
        lines.push(format!("{} {}", manifest.name, manifest.version));
        lines.extend(manifest.description.clone());
        let (reads, writes) = (manifest.schema.reads, manifest.schema.writes.range());
        let writes = match writes[0] == writes[1] {
            true => writes[1].to_string(),
            false => format!("{}, or older down to {} when it is told", writes[1], writes[0]),
        };
        lines.push(format!("reads schemas {} to {}, writes {writes}", reads[0], reads[1]));
        for directory in &manifest.asks.directories {
            let access = if directory.write { "read and write" } else { "read" };
            lines.push(format!("asks to {access} the directory {}", directory.name));
        }
        lines.extend(manifest.asks.http.iter().map(|host| format!("asks for HTTP to {host}")));
    } else {
        lines.push("carries no manifest".to_owned());
    }
    let kinds: Vec<&str> = inspection.kinds.iter().map(|kind| kind.name()).collect();
    if !kinds.is_empty() {
        lines.push(format!("keeps {}", kinds.join(", ")));
    }
    if inspection.hooks {
        lines.push("has hooks: can be asked before deliveries and told after them".to_owned());
    }
    lines.push(match inspection.lift {
        guest::Lift::Async => "an instance takes many calls at a time".to_owned(),
        guest::Lift::Sync => "an instance takes one call at a time".to_owned(),
    });
    lines.push(format!("{} octets, BLAKE3 {}", inspection.size, inspection.digest));
    lines.extend(signed.iter().map(SignedBy::shown));
    lines.extend(inspection.imports.iter().map(|name| format!("imports {name}")));
    lines.extend(inspection.exports.iter().map(|name| format!("exports {name}")));
    lines.join("\n")
}
