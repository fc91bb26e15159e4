//! The servers side by side: the node, and Dovecot unless it is left out.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Context;
use postroom_system::{Node, scratch};
use tempfile::TempDir;

use crate::client::Client;
use crate::dovecot::Dovecot;
use crate::machine;
use crate::report::progress;

/// With which any user logs in on both.
pub const PASSWORD: &str = "secret";

/// One server: where it listens and which processes are its.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    /// What it is called in tables.
    pub name: &'static str,
    /// Its IMAP address.
    pub imap: SocketAddr,
    /// Its LMTP address.
    pub lmtp: SocketAddr,
    /// Where its metrics are, if it has any.
    admin: Option<SocketAddr>,
    /// Its first process.
    pid: u32,
}

/// What a server has asked of the disk so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Costs {
    /// Waits for the medium, by its own count; Dovecot has none.
    pub syncs: f64,
    /// Octets written, by its own count.
    pub counted: f64,
    /// Octets written, by the system's count for its processes.
    pub written: f64,
}

impl Side {
    /// A connection of a user.
    pub fn log_in(&self, user: &str) -> anyhow::Result<Client> {
        Client::log_in(self.imap, user, PASSWORD)
            .with_context(|| format!("{} of {user}", self.name))
    }

    /// Proportional set size of all its processes, in KiB.
    pub fn pss(&self) -> f64 {
        // A process that ends while one looks has no memory any more.
        machine::tree(self.pid).into_iter().map(|pid| machine::pss(pid).unwrap_or(0.0)).sum()
    }

    /// What it has asked of the disk so far.
    pub fn costs(&self) -> anyhow::Result<Costs> {
        let written = |pid| machine::written(pid).unwrap_or(0.0);
        let written = machine::tree(self.pid).into_iter().map(written).sum();
        let Some(admin) = self.admin else { return Ok(Costs { written, ..Costs::default() }) };
        let metrics = ureq::get(format!("http://{admin}/metrics")).call()?;
        let metrics = metrics.into_body().read_to_string()?;
        let counted = total(&metrics, "postroom_storage_row_octets_total")
            + total(&metrics, "postroom_storage_segment_octets_total");
        let syncs = total(&metrics, "postroom_storage_syncs_total");
        Ok(Costs { syncs, counted, written })
    }
}

/// A metric, summed over its labels; zero where it was never counted.
fn total(metrics: &str, name: &str) -> f64 {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix(name));
    let lines = lines.filter(|rest| rest.starts_with([' ', '{']));
    lines.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// Running servers, ended when dropped.
pub struct Servers {
    /// Postroom first.
    pub sides: Vec<Side>,
    _node: Node,
    _dovecot: Option<Dovecot>,
    // The last field: it goes when nobody writes into it any more.
    folder: TempDir,
}

impl Servers {
    /// Starts them on folders of their own, on one file system.
    pub fn start(with_dovecot: bool) -> anyhow::Result<Self> {
        let folder = scratch();
        let node = Node::start(&folder.path().join("postroom"));
        let mut sides = vec![Side {
            name: "Postroom",
            imap: node.imap,
            lmtp: node.lmtp,
            admin: Some(node.admin),
            pid: node.pid(),
        }];
        let dovecot = match with_dovecot {
            true => Some(Dovecot::start(folder.path())?),
            false => None,
        };
        sides.extend(dovecot.as_ref().map(|dovecot| Side {
            name: "Dovecot",
            imap: dovecot.imap,
            lmtp: dovecot.lmtp,
            admin: None,
            pid: dovecot.pid(),
        }));
        let names: Vec<_> = sides.iter().map(|side| side.name).collect();
        progress(format_args!("started: {}", names.join(", ")));
        Ok(Self { sides, _node: node, _dovecot: dovecot, folder })
    }

    /// Where they keep their mail.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_summed_over_its_labels_and_no_other_is_taken_for_it() {
        let text = "# HELP a_total x\na_total{engine=\"redb\"} 3\na_total{engine=\"other\"} 4.5\n\
                    a_total_more{engine=\"redb\"} 100\nb_total 7\n";
        assert_eq!(total(text, "a_total"), 7.5);
        assert_eq!(total(text, "b_total"), 7.0);
        assert_eq!(total(text, "c_total"), 0.0);
    }
}
