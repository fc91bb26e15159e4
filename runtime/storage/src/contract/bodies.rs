//! Bodies and their links. Each case is run with a small (inline) and a large (stored) body.

use super::*;
use crate::{MAX_BODY_NAME_OCTETS, MAX_BODY_OCTETS};

/// Octets of an inline body, and of one that no engine keeps inline.
const SIZES: [usize; 2] = [500, 200_000];

fn link(name: &str, body: &Body) -> Write {
    Write::LinkBody { name: name.to_owned(), body: body.clone() }
}

fn unlink(name: &str) -> Write {
    Write::UnlinkBody { name: name.to_owned() }
}

impl Subject {
    async fn new_body(&self, seed: u8, size: usize) -> Body {
        self.engine.new_body(self.space(), octets(seed, size)).await.unwrap()
    }

    /// The whole body of a name.
    async fn read(&self, name: &str) -> Option<Bytes> {
        let body = self.engine.body(self.space(), name).await.unwrap()?;
        Some(self.engine.read_body(self.space(), &body, 0, u64::MAX).await.unwrap())
    }
}

pub async fn a_body_is_read_back_whole_and_in_ranges(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let all = [1, 500, 16 << 10, (16 << 10) + 1, 32 << 10, 100_000, 3_000_000];
    for (seed, size) in all.into_iter().enumerate() {
        let (name, whole) = (size.to_string(), octets(seed as u8, size));
        let body = subject.new_body(seed as u8, size).await;
        assert_eq!(body.digest(), *blake3::hash(&whole).as_bytes());
        subject.write(vec![link(&name, &body)]).await.unwrap();
        let stored = engine.body(subject.space(), &name).await.unwrap().unwrap();
        assert_eq!((stored.size, stored.digest), (size as u64, body.digest()));
        let size = size as u64;
        for (at, max) in [
            (0, u64::MAX),
            (0, size),
            (0, size - 1),
            (1, u64::MAX),
            (size - 1, 1),
            (size, 10),
            (size + 10, 10),
            (u64::MAX, u64::MAX),
            (size / 2, 16 << 10),
            (size / 3, 1),
            (0, 0),
        ] {
            let part = engine.read_body(subject.space(), &stored, at, max).await.unwrap();
            let start = at.min(size) as usize;
            let end = at.saturating_add(max).min(size) as usize;
            assert_eq!(part, whole.slice(start..end), "{size}: {at} {max}");
        }
    }
}

pub async fn an_empty_body_is_a_body(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let body = subject.new_body(0, 0).await;
    subject.write(vec![link("empty", &body)]).await.unwrap();
    assert_eq!(subject.read("empty").await, Some(Bytes::new()));
}

pub async fn a_body_lives_until_its_last_link_goes(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    for size in SIZES {
        let body = subject.new_body(1, size).await;
        subject.write(vec![link("one", &body)]).await.unwrap();
        let stored = engine.body(subject.space(), "one").await.unwrap().unwrap();
        subject.write(vec![link("two", &Body::Stored(stored))]).await.unwrap();
        subject.write(vec![unlink("one")]).await.unwrap();
        assert_eq!(subject.read("one").await, None);
        assert_eq!(subject.read("two").await, Some(octets(1, size)));
        subject.write(vec![unlink("two")]).await.unwrap();
        assert_eq!(subject.read("two").await, None);
        let gone = engine.read_body(subject.space(), &stored, 0, 10).await;
        assert_eq!(gone, Err(StorageError::Conflict));
    }
}

pub async fn a_body_whose_last_link_went_is_not_linked_again(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    for size in SIZES {
        let body = subject.new_body(1, size).await;
        subject.write(vec![link("one", &body)]).await.unwrap();
        let stored = engine.body(subject.space(), "one").await.unwrap().unwrap();
        subject.write(vec![unlink("one")]).await.unwrap();
        let again = subject.write(vec![link("two", &Body::Stored(stored))]).await;
        assert_eq!(again, Err(StorageError::Conflict));
    }
}

pub async fn a_name_in_use_is_refused(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    for size in SIZES {
        let (one, two) = (subject.new_body(1, size).await, subject.new_body(2, size).await);
        let name = size.to_string();
        subject.write(vec![link(&name, &one)]).await.unwrap();
        let writes = vec![put(message("k"), "v"), link(&name, &two)];
        assert_eq!(subject.write(writes).await, Err(StorageError::Conflict));
        let twice = vec![link("new", &two), link("new", &two)];
        assert_eq!(subject.write(twice).await, Err(StorageError::Conflict));
        assert_eq!(subject.read(&name).await, Some(octets(1, size)));
        assert_eq!(subject.all(Area::Message).await, []);
    }
}

pub async fn a_name_is_free_again_within_the_commit_that_unlinks_it(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    for size in SIZES {
        let (one, two) = (subject.new_body(1, size).await, subject.new_body(2, size).await);
        let name = size.to_string();
        subject.write(vec![link(&name, &one)]).await.unwrap();
        subject.write(vec![unlink(&name), link(&name, &two)]).await.unwrap();
        assert_eq!(subject.read(&name).await, Some(octets(2, size)));
        // Links and unlinks of one body within a commit cancel out.
        subject.write(vec![unlink(&name)]).await.unwrap();
        let three = subject.new_body(3, size).await;
        subject.write(vec![link("a", &three), unlink("a"), link("b", &three)]).await.unwrap();
        assert_eq!(
            (subject.read("a").await, subject.read("b").await),
            (None, Some(octets(3, size)))
        );
        subject.write(vec![unlink("b")]).await.unwrap();
    }
}

pub async fn unlinking_what_is_not_there_changes_nothing(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    assert_eq!(subject.write(vec![unlink("absent")]).await, Ok(Committed { head: 1 }));
}

pub async fn a_body_linked_twice_in_one_commit_has_two_links(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    for size in SIZES {
        let body = subject.new_body(1, size).await;
        subject.write(vec![link("one", &body), link("two", &body)]).await.unwrap();
        subject.write(vec![unlink("one")]).await.unwrap();
        assert_eq!(subject.read("two").await, Some(octets(1, size)));
        subject.write(vec![unlink("two")]).await.unwrap();
    }
}

pub async fn a_body_of_another_space_is_not_there(engine: Arc<dyn Engine>) {
    let one = Subject::new(engine.clone()).await;
    let other = Subject::of_account(engine.clone(), AccountId([8; 16])).await;
    for size in SIZES {
        let name = size.to_string();
        let body = one.new_body(1, size).await;
        one.write(vec![link(&name, &body)]).await.unwrap();
        let stored = engine.body(one.space(), &name).await.unwrap().unwrap();
        assert_eq!(other.read(&name).await, None);
        let stolen = other.write(vec![link(&name, &Body::Stored(stored))]).await;
        assert_eq!(stolen, Err(StorageError::Conflict));
        let read = engine.read_body(other.space(), &stored, 0, 10).await;
        assert_eq!(read, Err(StorageError::Conflict));
    }
}

pub async fn a_body_that_was_never_stored_is_refused(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let forged = crate::BodyRef { key: [1; 16], size: 5, digest: [2; 32] };
    let refused = subject.write(vec![link("forged", &Body::Stored(forged))]).await;
    assert_eq!(refused, Err(StorageError::Conflict));
    // Nor can a body be passed off as another of the same key.
    let body = subject.new_body(1, SIZES[1]).await;
    subject.write(vec![link("real", &body)]).await.unwrap();
    let forged = crate::BodyRef { key: body.key(), size: 5, digest: body.digest() };
    let refused = subject.write(vec![link("forged", &Body::Stored(forged))]).await;
    assert_eq!(refused, Err(StorageError::Conflict));
}

pub async fn a_new_body_is_readable_before_it_is_linked(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let view = View::new(engine, subject.space());
    for size in SIZES {
        let body = subject.new_body(1, size).await;
        let read = view.read_body(&body, 3, 10).await;
        assert_eq!(read, Ok(octets(1, size).slice(3..13)));
    }
}

pub async fn a_refused_commit_leaves_its_new_body_linkable(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    for size in SIZES {
        let (body, name) = (subject.new_body(1, size).await, size.to_string());
        let commit = subject.commit_of(vec![link(&name, &body)]);
        let refused = Commit { expected_head: Some(77), ..commit.clone() };
        assert!(engine.commit(refused).await.is_err());
        assert!(engine.commit(commit).await.is_ok());
        assert_eq!(subject.read(&name).await, Some(octets(1, size)));
    }
}

pub async fn a_body_that_was_given_up_is_not_linked_any_more(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let body = subject.new_body(1, SIZES[1]).await;
    engine.give_up(subject.space(), std::slice::from_ref(&body));
    // It may be done together with the next commit.
    subject.write(vec![]).await.unwrap();
    let refused = subject.write(vec![link("late", &body)]).await;
    assert_eq!(refused, Err(StorageError::Conflict));
}

pub async fn giving_up_a_body_with_a_link_changes_nothing(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    for size in SIZES {
        let (body, name) = (subject.new_body(1, size).await, size.to_string());
        subject.write(vec![link(&name, &body)]).await.unwrap();
        engine.give_up(subject.space(), &[body]);
        let more = engine.body(subject.space(), &name).await.unwrap().map(Body::Stored).unwrap();
        subject.write(vec![link("two", &more), unlink(&name)]).await.unwrap();
        assert_eq!(subject.read("two").await, Some(octets(1, size)));
        subject.write(vec![unlink("two")]).await.unwrap();
    }
}

pub async fn a_commit_handed_over_before_its_body_is_given_up_links_it(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    for size in SIZES {
        let (body, name) = (subject.new_body(1, size).await, size.to_string());
        let mut commit = Box::pin(engine.commit(subject.commit_of(vec![link(&name, &body)])));
        let handed_over = futures::poll!(&mut commit);
        engine.give_up(subject.space(), &[body]);
        match handed_over {
            std::task::Poll::Ready(committed) => drop(committed.unwrap()),
            std::task::Poll::Pending => drop(commit.await.unwrap()),
        }
        assert_eq!(subject.read(&name).await, Some(octets(1, size)));
    }
}

pub async fn names_over_the_limit_are_refused(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine).await;
    let body = subject.new_body(1, 10).await;
    let longest = "x".repeat(MAX_BODY_NAME_OCTETS);
    subject.write(vec![link(&longest, &body)]).await.unwrap();
    assert_eq!(subject.read(&longest).await, Some(octets(1, 10)));
    for name in [String::new(), "x".repeat(MAX_BODY_NAME_OCTETS + 1)] {
        for write in [link(&name, &body), unlink(&name)] {
            assert!(matches!(subject.write(vec![write]).await, Err(StorageError::Limit(_))));
        }
    }
}

pub async fn a_body_over_the_limit_is_refused(engine: Arc<dyn Engine>) {
    let subject = Subject::new(engine.clone()).await;
    let octets = Bytes::from(vec![0; MAX_BODY_OCTETS + 1]);
    let refused = engine.new_body(subject.space(), octets).await;
    assert!(matches!(refused, Err(StorageError::Limit(_))));
}
