//! A store at fault: what that costs, what it is called, and that nothing stays of it.

use super::server::{Fault, S3Server, SECRET};
use super::*;

#[tokio::test]
async fn a_bucket_that_does_what_is_needed_passes_the_check_and_keeps_nothing_of_it() {
    let server = S3Server::start().await;
    server.objects().check().await.unwrap();
    assert_eq!(server.files(), Vec::<std::path::PathBuf>::new());
}

#[tokio::test]
async fn a_wrong_bucket_or_wrong_credentials_are_one_line_that_says_so() {
    let server = S3Server::start().await;
    let check = async |config: S3Config| {
        let error = Objects::in_s3(&config).unwrap().check().await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, ObjectsError::Wrong(_)), "{text}");
        assert!(!text.contains('\n') && !text.contains(SECRET) && text.len() < 200, "{text}");
        text
    };
    let absent = check(S3Config { bucket: "absent".to_owned(), ..server.config() }).await;
    assert!(absent.contains("\"absent\" is not there"), "{absent}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let wrong = [("TESTKEYID", "wrong"), ("OTHER", SECRET)];
    for (id, secret) in wrong {
        let lines = format!("aws_access_key_id={id}\naws_secret_access_key={secret}\n");
        std::fs::write(file.path(), lines).unwrap();
        let credentials_file = Some(file.path().to_owned());
        let refused = check(S3Config { credentials_file, ..server.config() }).await;
        assert!(refused.contains("refuses these credentials"), "{refused}");
    }
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_no_fault_of_the_configuration() {
    let server = S3Server::start().await;
    let objects = server.objects();
    for fault in [Fault::Refuses, Fault::Hangs] {
        server.set(Some(fault));
        let error = objects.check().await.unwrap_err();
        assert!(matches!(error, ObjectsError::Unavailable(_)), "{error}");
    }
    let nowhere = S3Config { endpoint: Some("http://127.0.0.1:9".to_owned()), ..server.config() };
    let error = Objects::in_s3(&nowhere).unwrap().check().await.unwrap_err();
    assert!(matches!(error, ObjectsError::Unavailable(_)), "{error}");
}

#[test]
fn nothing_secret_is_shown() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(S3Server::start());
    for shown in [format!("{:?}", server.objects()), format!("{:?}", server.config())] {
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[tokio::test]
async fn what_a_store_at_fault_hands_back_is_never_taken_for_the_body() {
    let server = S3Server::start().await;
    let objects = server.objects();
    let body = stored(&objects, b"twelve octets").await;
    let whole = async || objects.read(SPACE, &body, 0, 99).await;
    let part = async || objects.read(SPACE, &body, 7, 3).await;
    let sound = async || {
        assert_eq!(whole().await, Ok("twelve octets".into()));
        assert_eq!(part().await, Ok("oct".into()));
    };
    sound().await;
    for (fault, temporary) in [
        (Fault::Refuses, true),
        (Fault::Hangs, true),
        (Fault::BreaksOff, true),
        (Fault::Cuts, false),
        (Fault::Changes, false),
    ] {
        server.set(Some(fault));
        match whole().await {
            Err(StorageError::Unavailable(_)) if temporary => {}
            Err(StorageError::Damaged(why)) if !temporary && why.contains("0909") => {}
            other => panic!("{fault:?}: {other:?}"),
        }
        // A part has no digest of its own: a changed octet in it is found by whoever has the whole.
        let part = part().await;
        assert_eq!(part.is_ok(), fault == Fault::Changes, "{fault:?}: {part:?}");
        server.set(None);
        sound().await;
    }
}

#[tokio::test]
async fn a_put_that_is_refused_or_never_answered_is_not_acknowledged() {
    let server = S3Server::start().await;
    let objects = server.objects();
    for fault in [Fault::Refuses, Fault::Hangs] {
        server.set(Some(fault));
        let put = objects.put(SPACE, &[5; 16], "octets".into()).await;
        assert!(matches!(put, Err(StorageError::Unavailable(_))), "{fault:?}: {put:?}");
        let removed = objects.remove(SPACE, &[5; 16]).await;
        assert!(matches!(removed, Err(StorageError::Unavailable(_))), "{fault:?}: {removed:?}");
    }
    server.set(None);
    assert_eq!(objects.put(SPACE, &[5; 16], "octets".into()).await, Ok(()));
}

#[tokio::test]
async fn a_fetch_ends_when_its_time_is_over() {
    let server = S3Server::start().await;
    let objects = server.objects();
    let body = stored(&objects, b"octets").await;
    server.set(Some(Fault::Hangs));
    let (start, limit) = (std::time::Instant::now(), objects.time_for(body.size));
    let hung = objects.read(SPACE, &body, 0, 99).await;
    assert!(matches!(hung, Err(StorageError::Unavailable(_))), "{hung:?}");
    assert!(start.elapsed() < limit * 3, "{:?}", start.elapsed());
    let longest = Objects { time: REQUEST_TIME, ..objects };
    assert_eq!(longest.time_for(crate::MAX_BODY_OCTETS as u64), Duration::from_secs(84));
}

#[tokio::test]
async fn a_refusal_for_a_moment_is_not_noticed() {
    let server = S3Server::start().await;
    let objects = server.objects();
    let body = stored(&objects, b"octets").await;
    let mut requests = server.requests();
    requests.mark_unchanged();
    server.set(Some(Fault::Refuses));
    let well_again = async {
        requests.changed().await.unwrap();
        server.set(None);
    };
    let (read, ()) = tokio::join!(objects.read(SPACE, &body, 0, 99), well_again);
    assert_eq!(read, Ok("octets".into()));
}

#[tokio::test]
async fn in_s3_a_missing_object_is_damage_and_a_missing_bucket_is_not() {
    let server = S3Server::start().await;
    let objects = server.objects();
    let body = stored(&objects, b"octets").await;
    let files = server.files();
    assert_eq!(files.len(), 1, "{files:?}");
    std::fs::remove_file(&files[0]).unwrap();
    let gone = objects.read(SPACE, &body, 0, 99).await;
    assert!(matches!(gone, Err(StorageError::Damaged(_))), "{gone:?}");
    let absent = S3Config { bucket: "absent".to_owned(), ..server.config() };
    let absent = Objects::in_s3(&absent).unwrap();
    let gone = absent.read(SPACE, &body, 0, 99).await;
    assert!(matches!(gone, Err(StorageError::Unavailable(_))), "{gone:?}");
    assert_eq!(objects.remove(SPACE, &body.key).await, Ok(()));
}
