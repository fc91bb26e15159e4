//! Who signed a component. The key, and the signatures of the file `test`, are minisign's own.

use bytes::Bytes;

use crate::guest::{ComponentFrom, ComponentSource, Keys, LoadError, PublicKey, signature_path};

const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
const NUMBER: &str = "E7620F1842B4E81F";
const FILE: &[u8] = b"test";
const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1556193335\tfile:test
y/rUw2y8/hOUYjZU71eHp/Wo1KZ40fGy2VJEDl34XMJM+TX48Ss/17u3IvIfbVR1FkZZSNCisQbuQY+bHwhEBg==
";
/// Over the file itself, not its hash.
const OLD: &str = "untrusted comment: signature from minisign secret key
RWQf6LRCGA9i59SLOFxz6NxvASXDJeRtuZykwQepbDEGt87ig1BNpWaVWuNrm73YiIiJbq71Wi+dP9eKL8OC351vwIasSSbXxwA=
trusted comment: timestamp:1555779966\tfile:test
QtKMXWyYcwdpZAlPF7tE2ENJkRd1ujvKjlj1m9RtHTBnZPa5WKU5uWRs5GoP5M/VqE81QFuMKI5k/SfNQUaOAA==
";

fn key(text: &str) -> PublicKey {
    text.parse().expect(text)
}

/// The key with other octets: the number stays, the key does not.
fn forged() -> PublicKey {
    key(&KEY.replace("Y7GFO3", "Y7GFO4"))
}

/// A key with another number.
fn stranger() -> PublicKey {
    key(&KEY.replacen("RWQf6", "RWQg6", 1))
}

fn keys(keys: &[PublicKey]) -> Keys {
    keys.to_vec().try_into().expect("so many may be named")
}

/// What comes of this file and signature under these keys: who signed, and whether that is verified; or a
/// part of the reason.
#[track_caller]
fn check(
    named: &[PublicKey],
    file: &'static [u8],
    signature: Option<&str>,
    expected: Result<Option<bool>, &str>,
) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let octets = Bytes::from_static(file);
    let got = runtime.block_on(keys(named).check(&octets, signature));
    match (got, expected) {
        (Ok(None), Ok(None)) => {}
        (Ok(Some(by)), Ok(Some(verified))) => {
            assert_eq!((by.key.as_str(), by.verified), (NUMBER, verified));
            assert_eq!(by.comment, "timestamp:1556193335 file:test");
        }
        (Err(error), Err(part)) => {
            let text = error.to_string();
            assert!(text.contains(part) && !text.contains('\n'), "{text:?} lacks {part:?}");
        }
        (got, expected) => panic!("{got:?}, expected {expected:?}"),
    }
}

#[test]
fn what_one_of_the_keys_has_signed_is_taken() {
    check(&[key(KEY)], FILE, Some(SIGNATURE), Ok(Some(true)));
    check(&[stranger(), forged(), key(KEY)], FILE, Some(SIGNATURE), Ok(Some(true)));
}

#[test]
fn without_keys_everything_is_taken_that_has_the_form_of_a_signature() {
    check(&[], FILE, None, Ok(None));
    check(&[], FILE, Some(SIGNATURE), Ok(Some(false)));
    check(&[], FILE, Some("rubbish"), Err("was cut"));
}

#[test]
fn what_none_of_the_keys_has_signed_is_refused() {
    check(&[key(KEY)], FILE, None, Err("minisign -S"));
    check(&[stranger()], FILE, Some(SIGNATURE), Err("made with key E7620F1842B4E81F"));
    check(&[forged()], FILE, Some(SIGNATURE), Err("another file's"));
    check(&[key(KEY)], b"Test", Some(SIGNATURE), Err("another file's"));
    check(&[key(KEY)], FILE, Some(OLD), Err("minisign -S -H"));
    let comment = SIGNATURE.replace("file:test", "file:best");
    check(&[key(KEY)], FILE, Some(&comment), Err("another file's"));
}

#[test]
fn a_signature_that_is_cut_anywhere_is_refused() {
    // The last octets are `==` and the end of the line.
    for end in 0..SIGNATURE.len() - 1 {
        let cut = &SIGNATURE[..end];
        let got = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let got = got.block_on(keys(&[key(KEY)]).check(&Bytes::from_static(FILE), Some(cut)));
        assert!(matches!(got, Err(LoadError::Signature(_))), "{end}: {got:?}");
    }
    let long = format!("{SIGNATURE}{}", " ".repeat(4096));
    check(&[key(KEY)], FILE, Some(&long), Err("was cut"));
}

#[test]
fn what_is_no_key_is_refused_by_name() {
    for text in ["", "RWQ", "rubbish", SIGNATURE, &KEY[1..], &format!("{KEY}AAAA")] {
        let error = text.parse::<PublicKey>().expect_err(text);
        assert!(error.contains("no public key of minisign") && !error.contains('\n'), "{error}");
    }
    assert_eq!(key(KEY).number(), NUMBER);
    let many = Keys::try_from(vec![key(KEY); 17]).unwrap_err();
    assert!(many.contains("at most 16"), "{many}");
}

#[tokio::test]
async fn a_file_is_held_against_what_lies_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("store.wasm");
    let source = |from| ComponentSource { name: "store".to_owned(), from };
    let (octets, wanted) = (Bytes::from_static(FILE), keys(&[key(KEY)]));
    let from_file = source(ComponentFrom::File(file.clone()));
    let unsigned = wanted.check_source(&from_file, &octets).await.unwrap_err();
    assert_eq!(unsigned, LoadError::Unsigned(NUMBER.to_owned()));
    Keys::default().check_source(&from_file, &octets).await.expect("nothing is asked for");
    let built_in = source(ComponentFrom::Octets(octets.clone()));
    wanted.check_source(&built_in, &octets).await.expect("it is part of the program");
    std::fs::write(signature_path(&file), SIGNATURE).expect("the folder is ours");
    wanted.check_source(&from_file, &octets).await.expect("it is signed");
    std::fs::write(signature_path(&file), [0xff; 8]).expect("the folder is ours");
    let error = wanted.check_source(&from_file, &octets).await.unwrap_err();
    assert!(error.to_string().contains("store.wasm.minisig"), "{error}");
}
