//! The cache of compiled code.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::super::cache::Cache;
use super::*;

fn config(folder: &Path) -> HostConfig {
    HostConfig { cache: Some(folder.join("code")), ..HostConfig::default() }
}

async fn load(folder: &Path) {
    let host = Host::new(config(folder)).unwrap();
    let loaded = host.load(default_store(), &Grants::default(), one_instance()).await.unwrap();
    let txn = Txn::new(Arc::new(MemoryEngine::new()), space(0));
    let domains: &dyn Records<DomainRow, String> = &*loaded;
    domains.insert(call(0), &txn, vec![domain("example.org")]).await.unwrap();
}

/// The one file of compiled code.
fn code_file(folder: &Path) -> PathBuf {
    let entries = fs::read_dir(folder.join("code")).unwrap().map(|entry| entry.unwrap().path());
    let mut code = entries.filter(|path| path.extension().is_some_and(|end| end == "code"));
    let file = code.next().unwrap();
    assert_eq!(code.next(), None);
    file
}

fn cached(folder: &Path) -> bool {
    let engine = super::super::engine::new_engine(&HostConfig::default()).unwrap();
    let cache = Cache::open(&folder.join("code"), 1024).unwrap();
    let ComponentFrom::Octets(octets) = default_store().from else { panic!() };
    cache.get(&engine, &inspect(&octets).unwrap().digest).is_some()
}

#[tokio::test]
async fn code_is_compiled_once_and_found_by_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    load(folder.path()).await;
    let written = fs::metadata(code_file(folder.path())).unwrap().modified().unwrap();
    assert!(cached(folder.path()));
    load(folder.path()).await;
    assert_eq!(fs::metadata(code_file(folder.path())).unwrap().modified().unwrap(), written);
}

#[tokio::test]
async fn damaged_code_is_a_miss_and_is_compiled_again() {
    let folder = tempfile::tempdir().unwrap();
    load(folder.path()).await;
    let file = code_file(folder.path());
    let whole = fs::read(&file).unwrap();
    let places = [0, 8, 39, 40, whole.len() / 2, whole.len() - 1];
    for at in places {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        fs::write(&file, damaged).unwrap();
        assert!(!cached(folder.path()), "octet {at}");
    }
    for length in [0, 7, 40, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(!cached(folder.path()), "{length} octets");
    }
    load(folder.path()).await;
    assert!(cached(folder.path()));
}

#[tokio::test]
async fn code_that_others_could_have_written_is_a_miss() {
    let folder = tempfile::tempdir().unwrap();
    load(folder.path()).await;
    let file = code_file(folder.path());
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(!cached(folder.path()));
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(cached(folder.path()));
    // From another node: right in itself, but without this folder's key.
    fs::write(folder.path().join("code/key"), [7; 32]).unwrap();
    assert!(!cached(folder.path()));
}

#[tokio::test]
async fn a_folder_that_others_can_write_is_done_without() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("code")).unwrap();
    let open = fs::Permissions::from_mode(0o777);
    fs::set_permissions(folder.path().join("code"), open).unwrap();
    load(folder.path()).await;
    assert_eq!(fs::read_dir(folder.path().join("code")).unwrap().count(), 0);
}

#[test]
fn old_code_goes_when_the_folder_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let engine = super::super::engine::new_engine(&HostConfig::default()).unwrap();
    let cache = Cache::open(&folder.path().join("code"), 1).unwrap();
    for digest in ["a", "b", "c"] {
        cache.put(&engine, digest, &vec![0; 600_000]).unwrap();
    }
    let left = code_file(folder.path());
    assert!(left.file_name().unwrap().to_str().unwrap().starts_with("c-"), "{left:?}");
}
