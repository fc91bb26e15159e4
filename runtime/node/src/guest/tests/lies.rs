//! Answers that break the interface's promises are not believed.

use super::*;

#[tokio::test]
async fn a_select_that_answers_something_else_is_broken() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    for (lie, why) in [
        ("too-many", "answered 2 rows"),
        ("another", "another record"),
        ("capitals", "capitals"),
        ("huge", "exhausted"),
    ] {
        let answer = bench.ask(1, &[lie]).await;
        let broken = matches!(&answer, Err(StoreError::Broken(text)) if text.contains(why));
        assert!(broken, "{lie}: {answer:?}");
    }
}

#[tokio::test]
async fn a_list_out_of_order_or_without_end_is_broken() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    let domains: &dyn Records<DomainRow, String> = &*bench.component;
    for lie in ["disorder", "twice", "back", "too-many", "more-of-none"] {
        let page = domains.list(call(1), &bench.view(1), Some(lie.to_owned()), 5).await;
        assert!(matches!(page, Err(StoreError::Broken(_))), "{lie}: {page:?}");
    }
}

#[tokio::test]
async fn a_check_that_would_never_end_is_broken() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    let domains: &dyn Records<DomainRow, String> = &*bench.component;
    let page = domains.check(call(1), &bench.txn(1), Some("x".to_owned()), false).await;
    assert!(matches!(page, Err(StoreError::Broken(_))), "{page:?}");
}

#[tokio::test]
async fn the_text_of_an_error_is_one_short_line() {
    let bench = Bench::new(guest("unruly"), one_instance()).await;
    let Err(StoreError::Denied(text)) = bench.ask(1, &["long-error"]).await else { panic!() };
    assert!(text.len() <= 500 && !text.contains('\n'), "{text}");
}
