//! Components that have to be signed, on real nodes: what none of the keys has signed is never loaded.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use blake2::{Blake2b512, Digest};
use postroom_system::node::postroom;
use postroom_system::scratch;
use postroom_system::soak::versions::Versions;
use postroom_system::store_cluster::{STORE, StoreCluster, tables};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey};

/// Signs as minisign does.
struct Signer {
    number: [u8; 8],
    pair: KeyPair,
}

impl Signer {
    fn new(number: u8) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key can be made");
        Self { number: [number; 8], pair }
    }

    /// The second line of its `.pub` file.
    fn public(&self) -> String {
        STANDARD.encode([b"Ed", &self.number[..], self.pair.public_key_raw()].concat())
    }

    /// The line of the configuration that asks for it.
    fn keys(&self) -> String {
        format!("keys = [{:?}]", self.public())
    }

    fn signature(&self, octets: &[u8]) -> String {
        let sign = |octets: &[u8]| self.pair.sign(octets).expect("it signs");
        let own = sign(&Blake2b512::digest(octets));
        let comment = "a test's";
        let global = sign(&[&own[..], comment.as_bytes()].concat());
        let own = [b"ED", &self.number[..], &own[..]].concat();
        let (own, global) = (STANDARD.encode(own), STANDARD.encode(global));
        format!("untrusted comment: x\n{own}\ntrusted comment: {comment}\n{global}\n")
    }

    fn sign(&self, file: &Path) {
        let octets = std::fs::read(file).expect("it is there");
        put(file, &self.signature(&octets));
    }
}

fn beside(file: &Path) -> PathBuf {
    let name = file.file_name().expect("a name").to_str().expect("a plain one");
    file.with_file_name(format!("{name}.minisig"))
}

fn put(file: &Path, signature: &str) {
    std::fs::write(beside(file), signature).expect("the folder is ours");
}

/// Two good versions.
fn two(folder: &Path) -> [PathBuf; 2] {
    let mut versions = Versions::build(folder).expect("the components can be built");
    [(); 2].map(|()| versions.good("").expect("the folder is ours"))
}

#[test]
fn only_what_one_of_the_keys_has_signed_is_deployed() {
    let (own, other, folder) = (Signer::new(1), Signer::new(2), scratch());
    let [first, file] = two(folder.path());
    own.sign(&first);
    let tables = format!("{}{}\n", tables(&first), own.keys());
    let mut bench = StoreCluster::start(folder, 2, &tables);
    let before = bench.serves(0);
    bench.is_refused(&file, &[], "is not signed");
    other.sign(&file);
    bench.is_refused(
        &file,
        &[],
        "made with key 0202020202020202, and 0101010101010101 is asked for",
    );
    let octets = std::fs::read(&file).expect("it is there");
    let whole = own.signature(&octets);
    put(&file, &whole[..whole.len() / 2]);
    bench.is_refused(&file, &[], "was cut");
    put(&file, &own.signature(&octets[1..]));
    bench.is_refused(&file, &[], "another file's");
    assert!(bench.history().is_empty(), "none of them was begun");
    bench.all_serve(&before);

    put(&file, &whole);
    let path = file.to_str().expect("a plain path");
    let plan = bench.first().command(&["store", "deploy", path, "--to", STORE, "--plan"], "");
    let signed = plan.expect("it would be taken").remove(0)["signed"].clone();
    assert_eq!((&signed["key"], &signed["verified"]), (&"01".repeat(8).into(), &true.into()));
    bench.deploy(&file, &["--probation", "1s"]).expect("it is signed");
    let serves = bench.serves(0);
    assert_ne!(serves, before);
    bench.all_serve(&serves);
    // Who starts later finds the signature in storage.
    bench.cluster.nodes[1].kill();
    bench.cluster.nodes[1].start().expect("it starts again");
    assert_eq!(bench.serves(1), serves);

    let shown = |args: &[&str]| {
        let done = postroom(&[&["store", "inspect", path], args].concat());
        let said = [done.stdout, done.stderr].concat();
        (done.status.success(), String::from_utf8(said).expect("text"))
    };
    let (done, said) = shown(&[]);
    assert!(done && said.contains("which nobody has verified"), "{said}");
    let (done, said) = shown(&["--key", &own.public()]);
    assert!(done && said.contains("signed with key 0101010101010101 (a test's)"), "{said}");
    let (done, said) = shown(&["--key", &other.public()]);
    assert!(!done && said.contains("made with key 0101010101010101"), "{said}");

    // What is deployed goes by what came with it, whatever has become of the configured file's signature.
    let again = bench.folder.path().join("again.wasm");
    std::fs::copy(&first, &again).expect("the folder is ours");
    own.sign(&again);
    std::fs::remove_file(beside(&first)).expect("it was there");
    bench.deploy(&again, &["--probation", "1s"]).expect("it is signed");
    bench.all_serve(&before);
}

#[test]
fn a_key_that_is_asked_for_later_keeps_what_is_not_signed_from_starting() {
    let (own, folder) = (Signer::new(1), scratch());
    let [first, file] = two(folder.path());
    let mut bench = StoreCluster::start(folder, 1, &tables(&first));
    bench.deploy(&file, &["--probation", "1s"]).expect("nothing has to be signed");
    let serves = bench.serves(0);
    let configuration = bench.folder.path().join("a/node.toml");
    let text = std::fs::read_to_string(&configuration).expect("it is there");
    let configure = |file: &Path| {
        let line = format!("file = {:?}\n", first);
        let new = format!("file = {file:?}\n{}\n", own.keys());
        assert!(text.contains(&line), "{text}");
        std::fs::write(&configuration, text.replace(&line, &new)).expect("the folder is ours");
    };
    let node = &mut bench.cluster.nodes[0];
    node.stop().expect("it stops");
    let mut starts_not = |part: &str| {
        let why = format!("{:#}", node.start().unwrap_err());
        assert!(why.contains(part), "{why}");
    };
    configure(&first);
    own.sign(&first);
    starts_not("which was deployed to store mail, is not signed with key 0101010101010101");
    configure(&file);
    starts_not("is not signed, and what is asked for is a signature with key 0101010101010101");
    own.sign(&first);
    std::fs::copy(beside(&first), beside(&file)).expect("the folder is ours");
    starts_not("another file's");
    own.sign(&file);
    node.start().expect("it is signed");
    assert_eq!(bench.serves(0), serves);
}
