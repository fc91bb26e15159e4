//! Certificates on the disk: made, joined by, renewed, revoked, damaged.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::*;

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

fn cluster() -> (tempfile::TempDir, Authority) {
    let home = tempfile::tempdir().unwrap();
    let authority = init(home.path(), &node("one"), SystemTime::now()).unwrap();
    (home, authority)
}

#[test]
fn init_makes_a_usable_node_and_keeps_keys_to_itself() {
    let (home, authority) = cluster();
    let credentials = Credentials::open(home.path()).unwrap();
    let holder = &credentials.current().holder;
    assert_eq!((holder.node.as_str(), holder.cluster), ("one", authority.cluster()));
    assert!(!holder.is_due(SystemTime::now()));
    assert!(holder.is_due(SystemTime::now() + NODE_VALIDITY - RENEW_BEFORE));
    for file in ["node.pem", "authority.key"] {
        assert_eq!(mode(&home.path().join(file)), 0o600, "{file}");
    }
    let left = std::fs::read_dir(home.path()).unwrap().count();
    assert_eq!(left, 3, "nothing else is left in the directory");
}

#[test]
fn init_leaves_a_taken_directory_alone() {
    let (home, _) = cluster();
    let before = std::fs::read(home.path().join("node.pem")).unwrap();
    let again = init(home.path(), &node("two"), SystemTime::now());
    assert!(matches!(again, Err(CertificateError::Taken(_, taken, _)) if taken.as_str() == "one"));
    assert_eq!(std::fs::read(home.path().join("node.pem")).unwrap(), before);
}

#[test]
fn a_node_joins_by_one_file() {
    let (home, authority) = cluster();
    let addresses = vec![(node("one"), "127.0.0.1:4".to_owned())];
    let file =
        authority.join_file(&node("two"), addresses.clone(), vec![node("one")], SystemTime::now());
    let path = home.path().join("two.join");
    file.unwrap().write(&path).unwrap();
    assert_eq!(mode(&path), 0o600);

    let two = tempfile::tempdir().unwrap();
    let read = JoinFile::read(&path).unwrap();
    assert_eq!((&read.addresses, read.seeds.len()), (&addresses, 1));
    read.install(two.path()).unwrap();
    let material = Credentials::open(two.path()).unwrap().current();
    assert_eq!(material.holder.node.as_str(), "two");
    assert!(!two.path().join("authority.key").exists(), "only one node makes certificates");
    assert!(!format!("{read:?}").contains("PRIVATE"), "keys are never printed");
}

#[test]
fn a_join_file_that_others_may_read_is_refused() {
    let (home, authority) = cluster();
    let path = home.path().join("two.join");
    let file = authority.join_file(&node("two"), vec![], vec![], SystemTime::now()).unwrap();
    file.write(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(JoinFile::read(&path), Err(CertificateError::Exposed(_))));
}

#[test]
fn a_join_file_of_mixed_or_damaged_parts_is_refused() {
    let (home, authority) = cluster();
    let (_other_home, other) = cluster();
    let path = home.path().join("two.join");
    let good = authority.join_file(&node("two"), vec![], vec![], SystemTime::now()).unwrap();
    let strange = other.join_file(&node("two"), vec![], vec![], SystemTime::now()).unwrap();
    let mixed = [
        JoinFile { node: node("three"), ..good.clone() },
        JoinFile { authority: strange.authority, ..good.clone() },
        JoinFile { certificate: strange.certificate, ..good.clone() },
        JoinFile { certificate: String::new(), ..good.clone() },
        JoinFile { revoked: "everything".to_owned(), ..good.clone() },
    ];
    for file in mixed {
        file.write(&path).unwrap();
        assert!(matches!(JoinFile::read(&path), Err(CertificateError::Unusable(..))));
    }
    good.write(&path).unwrap();
    let text = std::fs::read(&path).unwrap();
    for cut in (0..text.len()).step_by(97) {
        std::fs::write(&path, &text[..cut]).unwrap();
        assert!(JoinFile::read(&path).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_join_file_of_another_node_or_cluster_changes_nothing() {
    let (home, authority) = cluster();
    let (other_home, other) = cluster();
    let foreign = other.join_file(&node("one"), vec![], vec![], SystemTime::now()).unwrap();
    assert!(matches!(foreign.install(home.path()), Err(CertificateError::Taken(..))));
    let renamed = authority.join_file(&node("two"), vec![], vec![], SystemTime::now()).unwrap();
    assert!(matches!(renamed.install(home.path()), Err(CertificateError::Taken(..))));
    let kept = Credentials::open(home.path()).unwrap().current();
    assert_eq!((kept.holder.node.as_str(), kept.holder.cluster), ("one", authority.cluster()));
    drop(other_home);
}

#[test]
fn new_certificates_are_taken_up_and_bad_ones_are_not() {
    let (home, _) = cluster();
    let credentials = Credentials::open(home.path()).unwrap();
    let first = credentials.current().holder.serial.clone();
    credentials.look();
    assert_eq!(credentials.current().holder.serial, first);

    let issued = renew(home.path(), SystemTime::now()).unwrap();
    credentials.look();
    assert_eq!(credentials.current().holder.serial, issued.holder.serial);
    assert_ne!(issued.holder.serial, first);

    files::write_secret(&home.path().join("node.pem"), "rubbish").unwrap();
    credentials.look();
    assert_eq!(credentials.current().holder.serial, issued.holder.serial);
    std::fs::remove_file(home.path().join("node.pem")).unwrap();
    credentials.look();
    assert_eq!(credentials.current().holder.serial, issued.holder.serial);
}

#[test]
fn what_is_revoked_is_refused_by_serial_and_by_name() {
    let (home, authority) = cluster();
    let credentials = Credentials::open(home.path()).unwrap();
    let issue = |name| {
        let now = SystemTime::now();
        authority.issue(&node(name), now, Duration::from_secs(60)).unwrap().holder
    };
    let (first, second, other) = (issue("two"), issue("two"), issue("three"));
    let admitted = |peer: &Holder| credentials.current().admits(peer, SystemTime::now());
    assert!([&first, &second, &other].into_iter().all(admitted));

    revoke(home.path(), Revoked::Serial(first.serial.clone())).unwrap();
    credentials.look();
    assert!(!admitted(&first) && admitted(&second) && admitted(&other));
    revoke(home.path(), Revoked::Node(node("two"))).unwrap();
    credentials.look();
    assert!(!admitted(&first) && !admitted(&second) && admitted(&other));
    assert!(!credentials.current().admits(&other, other.not_after), "and what has expired");
    // A node that joins now knows it too.
    let file = authority.join_file(&node("four"), vec![], vec![], SystemTime::now()).unwrap();
    assert!(file.revoked.contains("node two"));
}

#[test]
fn a_list_of_revoked_that_makes_no_sense_is_not_half_read() {
    for bad in
        ["two", "node A", "serial", "serial zz", "serial ", &"serial 00".repeat(30), "node two b c"]
    {
        assert!(Revocations::parse(&format!("node one\n{bad}\n")).is_err(), "{bad}");
    }
    let list = Revocations::parse("\n node one\nserial 0A:ff \n").unwrap();
    assert_eq!(list.to_text(), "serial 0aff\nnode one\n");
}

#[test]
fn only_what_the_authority_has_signed_is_taken_from_others() {
    let (home, authority) = cluster();
    let (other_home, _) = cluster();
    let two = tempfile::tempdir().unwrap();
    let file = authority.join_file(&node("two"), vec![], vec![], SystemTime::now()).unwrap();
    file.install(two.path()).unwrap();
    let credentials = Credentials::open(two.path()).unwrap();
    let refused = |name| {
        let holder = authority.issue(&node(name), SystemTime::now(), NODE_VALIDITY).unwrap().holder;
        credentials.current().revoked.has(&holder)
    };

    assert_eq!(revoke(home.path(), Revoked::Node(node("three"))).unwrap(), Reach::Cluster);
    let list = Credentials::open(home.path()).unwrap().current().spread.to_text();
    credentials.take_revocations(&list).unwrap();
    assert!(refused("three"), "at once");
    credentials.take_revocations(&list).unwrap();
    let kept = std::fs::read_to_string(two.path().join("revoked")).unwrap();
    assert_eq!(kept, list, "and after a restart; once");

    // Without a signature, with that of another entry, or of another cluster's authority.
    let signature = list.trim().rsplit(' ').next().unwrap();
    revoke(other_home.path(), Revoked::Node(node("four"))).unwrap();
    let strange = Credentials::open(other_home.path()).unwrap().current().spread.to_text();
    for bad in ["node four".to_owned(), format!("node four {signature}"), strange] {
        assert!(credentials.take_revocations(&bad).is_err(), "{bad}");
        assert!(!refused("four"), "{bad}");
    }
    assert!(credentials.take_revocations("rubbish").is_err());

    // A node's own, without the authority's key: counts here and is told to nobody.
    assert_eq!(revoke(two.path(), Revoked::Node(node("four"))).unwrap(), Reach::ThisNode);
    credentials.look();
    assert!(refused("four"));
    assert_eq!(credentials.current().spread.to_text(), list);
    let none = revoke(home.path(), Revoked::Serial("not hex".to_owned()));
    assert!(matches!(none, Err(CertificateError::NoSerial)));
}
