//! Objects in a directory and in S3, healthy and not.

mod faults;
pub mod server;

use postroom_core::types::AccountId;

use super::*;

const SPACE: Space = Space::Account(AccountId([3; 16]));

async fn stored(objects: &Objects, octets: &'static [u8]) -> BodyRef {
    let digest = *blake3::hash(octets).as_bytes();
    let body = BodyRef { key: [9; 16], size: octets.len() as u64, digest };
    objects.put(SPACE, &body.key, octets.into()).await.unwrap();
    body
}

#[tokio::test]
async fn a_missing_short_long_or_changed_object_is_damage_that_names_the_body() {
    let directory = tempfile::tempdir().unwrap();
    let objects = Objects::in_directory(directory.path()).unwrap();
    let body = stored(&objects, b"twelve octets").await;
    assert_eq!(objects.read(SPACE, &body, 0, 99).await, Ok("twelve octets".into()));
    assert_eq!(objects.read(SPACE, &body, 7, 3).await, Ok("oct".into()));
    let file = directory.path().join(format!("{}/{}", "03".repeat(16), "09".repeat(16)));
    for wrong in ["twelve octetz", "short", "", "longer than twelve octets"] {
        std::fs::write(&file, wrong).unwrap();
        let whole = objects.read(SPACE, &body, 0, 99).await;
        assert!(matches!(&whole, Err(StorageError::Damaged(why)) if why.contains("0909")));
        let part = objects.read(SPACE, &body, 7, 3).await;
        let same_size = wrong.len() == body.size as usize;
        assert_eq!(matches!(part, Err(StorageError::Damaged(_))), !same_size, "{part:?}");
    }
    std::fs::remove_file(&file).unwrap();
    for (at, max) in [(0, 99), (7, 3), (99, 1)] {
        let gone = objects.read(SPACE, &body, at, max).await;
        assert!(matches!(gone, Err(StorageError::Damaged(_))), "{gone:?}");
    }
}

#[tokio::test]
async fn removing_is_repeatable_and_of_one_space() {
    let directory = tempfile::tempdir().unwrap();
    let objects = Objects::in_directory(directory.path()).unwrap();
    let body = stored(&objects, b"octets").await;
    objects.remove(Space::Directory, &body.key).await.unwrap();
    assert_eq!(objects.read(SPACE, &body, 0, 99).await, Ok("octets".into()));
    for _ in 0..2 {
        assert_eq!(objects.remove(SPACE, &body.key).await, Ok(()));
    }
}
