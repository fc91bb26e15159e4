//! Lists of what is revoked: whose entries count, what they are when two are put together, how long they get.

use std::time::SystemTime;

use rcgen::KeyPair;

use super::super::{Authority, Credentials, JoinFile, NODE_VALIDITY, NotTaken, init, revoke};
use super::*;

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// A home with the authority, and another node's directory.
struct Two {
    home: tempfile::TempDir,
    two: tempfile::TempDir,
    authority: Authority,
}

impl Two {
    fn new() -> Self {
        let (home, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let now = SystemTime::now();
        let authority = init(home.path(), &node("one"), now).unwrap();
        let file = authority.join_file(&node("two"), vec![], vec![], now).unwrap();
        JoinFile::install(&file, two.path()).unwrap();
        Self { home, two, authority }
    }

    fn refuses(&self, credentials: &Credentials, name: &str) -> bool {
        let issued = self.authority.issue(&node(name), SystemTime::now(), NODE_VALIDITY).unwrap();
        credentials.current().revoked.has(&issued.holder)
    }

    /// What the home tells others.
    fn told(&self) -> String {
        Credentials::open(self.home.path()).unwrap().current().spread.to_text()
    }
}

/// A signature that nobody has made for "node four".
const BAD: &str = "node four MEUCIQDdamagedAAAA\n";

#[test]
fn what_is_revoked_again_is_signed_again() {
    let cluster = Two::new();
    // Damaged, or of an authority that is no more.
    std::fs::write(cluster.home.path().join("revoked"), BAD).unwrap();
    assert_eq!(cluster.told(), "");
    let reach = revoke(cluster.home.path(), Revoked::Node(node("four"))).unwrap();
    assert_eq!(reach, Reach::Cluster);
    let told = cluster.told();
    assert!(told.starts_with("node four ") && told != BAD, "{told}");
    let credentials = Credentials::open(cluster.two.path()).unwrap();
    credentials.take_revocations(&told).unwrap();
    assert!(cluster.refuses(&credentials, "four"));
}

#[test]
fn a_signature_that_holds_replaces_one_that_does_not_and_never_the_other_way() {
    let cluster = Two::new();
    revoke(cluster.home.path(), Revoked::Node(node("four"))).unwrap();
    let told = cluster.told();
    let file = cluster.two.path().join("revoked");
    for there in [BAD, "node four\n"] {
        std::fs::write(&file, there).unwrap();
        let credentials = Credentials::open(cluster.two.path()).unwrap();
        assert!(cluster.refuses(&credentials, "four"), "it is refused here, however it is signed");
        assert!(credentials.current().spread.is_empty());
        credentials.take_revocations(&told).unwrap();
        assert_eq!(credentials.current().spread.to_text(), told, "and spreads from here on");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), told);
        assert!(credentials.take_revocations(BAD).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), told);
    }
}

#[test]
fn a_nodes_own_entries_keep_nothing_out_that_the_cluster_refuses() {
    let cluster = Two::new();
    let own: String = (0..MAX_OWN_REVOKED).map(|number| format!("serial {number:08x}\n")).collect();
    std::fs::write(cluster.two.path().join("revoked"), &own).unwrap();
    let more = revoke(cluster.two.path(), Revoked::Node(node("three")));
    assert!(matches!(more, Err(CertificateError::TooManyOwn)), "{more:?}");
    revoke(cluster.two.path(), Revoked::Serial("0".repeat(8))).unwrap();

    let credentials = Credentials::open(cluster.two.path()).unwrap();
    revoke(cluster.home.path(), Revoked::Node(node("three"))).unwrap();
    credentials.take_revocations(&cluster.told()).unwrap();
    assert!(cluster.refuses(&credentials, "three"));
    let again = Credentials::open(cluster.two.path()).unwrap();
    assert_eq!(again.current().revoked.len(), MAX_OWN_REVOKED + 1);
}

/// An authority, and as many entries of its as are asked for.
fn signed(count: usize) -> (KeyPair, Signers, Revocations) {
    let home = tempfile::tempdir().unwrap();
    let authority = init(home.path(), &node("one"), SystemTime::now()).unwrap();
    let read = |file| std::fs::read_to_string(home.path().join(file)).unwrap();
    let key = KeyPair::from_pem(&read(files::AUTHORITY_KEY)).unwrap();
    let signers = Signers::new(authority.cluster(), &read(files::AUTHORITY));
    let entry = |number| {
        let what = Revoked::Node(node(&format!("n{number}")));
        let signature = key.sign(what.words(&signers.cluster).as_bytes()).unwrap();
        (what, Some(BASE64.encode(signature)))
    };
    let list = Revocations((0..count).map(entry).collect());
    (key, signers, list)
}

#[test]
fn as_many_as_there_is_room_for_are_taken() {
    let (key, signers, many) = signed(MAX_REVOKED + 5);
    let mut list = Revocations::default();
    list.add_own(Revoked::Node(node("mine"))).unwrap();
    let merged = list.merge(many.clone(), &signers);
    assert!(merged.new && matches!(merged.left_out, Some(CertificateError::TooManyRevoked)));
    assert_eq!((list.len(), list.signed(&signers).len()), (MAX_REVOKED + 1, MAX_REVOKED));
    assert!(!list.covers(&many) && many.covers(&list.signed(&signers)));

    let full = list.add_signed(Revoked::Node(node("more")), &key, &signers);
    assert!(matches!(full, Err(CertificateError::TooManyRevoked)), "{full:?}");
    let first = list.signed(&signers).0.into_keys().next().unwrap();
    list.add_signed(first, &key, &signers).unwrap();
    let again = list.merge(Revocations::default(), &signers);
    assert!(!again.new && again.left_out.is_none());
    assert_eq!(Revocations::parse(&list.to_text()), Ok(list));
}

#[test]
fn what_is_written_can_be_read_again_whatever_is_in_it() {
    // Nothing of it is signed by the authority of now: an older one's.
    let (_, signers, many) = signed(MAX_REVOKED);
    let (_, _, old) = signed(MAX_REVOKED);
    let mut list = Revocations((0..MAX_OWN_REVOKED).map(own).collect());
    list.0.extend(old.0.into_iter().map(|(what, by)| (renamed(what), by)));
    assert_eq!(list.len(), MAX_ENTRIES);
    let merged = list.merge(many, &signers);
    assert!(!merged.new && merged.left_out.is_some());
    assert_eq!(Revocations::parse(&list.to_text()), Ok(list));
}

fn own(number: usize) -> (Revoked, Option<String>) {
    (Revoked::Serial(format!("{number:08x}")), None)
}

fn renamed(what: Revoked) -> Revoked {
    match what {
        Revoked::Node(name) => Revoked::Node(node(&format!("old-{name}"))),
        Revoked::Serial(_) => unreachable!("nodes only"),
    }
}

#[test]
fn a_list_counts_though_other_files_are_no_good() {
    let cluster = Two::new();
    let credentials = Credentials::open(cluster.two.path()).unwrap();
    let path = cluster.two.path().join(files::NODE);
    let good = std::fs::read_to_string(&path).unwrap();
    // Half replaced, or gone.
    for (name, spoil) in [("three", true), ("four", false)] {
        revoke(cluster.home.path(), Revoked::Node(node(name))).unwrap();
        match spoil {
            true => std::fs::write(&path, "rubbish").unwrap(),
            false => std::fs::remove_file(&path).unwrap(),
        }
        credentials.take_revocations(&cluster.told()).unwrap();
        assert!(cluster.refuses(&credentials, name));
        credentials.look();
        assert!(cluster.refuses(&credentials, name), "after a look too");
    }
    // What an operator writes by hand counts too.
    revoke(cluster.two.path(), Revoked::Node(node("five"))).unwrap();
    credentials.look();
    assert!(cluster.refuses(&credentials, "five"));
    files::write_secret(&path, &good).unwrap();
    credentials.look();
    assert!(["three", "four", "five"].iter().all(|name| cluster.refuses(&credentials, name)));
}

#[test]
fn a_file_that_was_no_good_is_read_again_though_it_looks_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let cluster = Two::new();
    let credentials = Credentials::open(cluster.home.path()).unwrap();
    let issued = super::super::renew(cluster.home.path(), SystemTime::now()).unwrap();
    // Rights are not seen by a look.
    let path = cluster.home.path().join(files::NODE);
    let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
    mode(0o644).unwrap();
    credentials.look();
    assert_ne!(credentials.current().holder.serial, issued.holder.serial);
    mode(0o600).unwrap();
    credentials.look();
    assert_eq!(credentials.current().holder.serial, issued.holder.serial);
}

#[test]
fn what_cannot_be_kept_counts_and_is_kept_later() {
    let cluster = Two::new();
    let credentials = Credentials::open(cluster.two.path()).unwrap();
    revoke(cluster.home.path(), Revoked::Node(node("three"))).unwrap();
    let file = cluster.two.path().join(files::REVOKED);
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    for _ in 0..2 {
        let error = credentials.take_revocations(&cluster.told()).unwrap_err();
        assert!(matches!(error, NotTaken::NotKept(_)), "{error}");
        assert!(error.to_string().contains("not kept"), "{error}");
        assert!(cluster.refuses(&credentials, "three"), "all the same");
        credentials.look();
        assert!(cluster.refuses(&credentials, "three"), "after a look too");
    }
    std::fs::remove_dir(&file).unwrap();
    credentials.look();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), cluster.told());
    assert!(cluster.refuses(&credentials, "three"));
    let again = Credentials::open(cluster.two.path()).unwrap();
    assert!(cluster.refuses(&again, "three"));
}
