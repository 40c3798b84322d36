use http_body_util::{Empty, Full};

use super::*;
use crate::body::testing::{
    Broken, Script, Seen, Step, Wakes, data, poll, read, read_all, trailers,
};

const LIMIT: usize = 10;

/// Polls until it is ready, or waits for more; returns the number of polls, or none.
fn polls_until_read<B: Body>(refusal: &mut RefusalBody<B>) -> Option<usize> {
    let wakes = Wakes::new();
    for polls in 1..100_000 {
        let woken = wakes.count();
        match refusal.poll_read(&mut Context::from_waker(&wakes.clone().into())) {
            Poll::Ready(()) => return Some(polls),
            Poll::Pending if wakes.count() == woken => return None,
            Poll::Pending => {}
        }
    }
    panic!("expected an end, found none");
}

fn refusal(steps: impl IntoIterator<Item = Step>) -> RefusalBody<Script> {
    let mut refusal = RefusalBody::new(Script::new(steps), LIMIT);
    assert!(polls_until_read(&mut refusal).is_some());
    refusal
}

/// Pinned, as a script is not `Unpin`.
fn given_back(refusal: RefusalBody<Script>) -> Pin<Box<ResponseBody<Script>>> {
    Box::pin(refusal.into_body())
}

#[test]
fn an_empty_refusal_is_whole_at_once() {
    let mut refusal = RefusalBody::new(Empty::<Bytes>::new(), LIMIT);
    assert!(refusal.rest.is_none());
    assert!(refusal.is_whole());
    assert_eq!(refusal.bytes(), None);
    assert_eq!(polls_until_read(&mut refusal), Some(1));
    let mut body = refusal.into_body();
    assert!(body.is_end_stream());
    assert_eq!(read_all(&mut body), Seen::whole(""));
}

#[test]
fn a_refusal_is_read_whole_and_lets_its_connection_go() {
    for tells_its_end in [false, true] {
        let mut script = Script::new([data("slow "), Step::Yield, data("down")]);
        if tells_its_end {
            script = script.tells_its_end();
        }
        let remote = script.remote();
        let mut refusal = RefusalBody::new(script, LIMIT);
        assert!(!refusal.is_whole());
        assert!(polls_until_read(&mut refusal).is_some());
        assert!(remote.is_dropped());
        assert_eq!(remote.polls(), if tells_its_end { 3 } else { 4 });
        assert!(refusal.is_whole());
        assert_eq!(refusal.bytes(), Some(&b"slow down"[..]));

        let mut body = given_back(refusal);
        assert_eq!(body.size_hint().exact(), Some(9));
        assert_eq!(read_all(&mut body), Seen::whole("slow down"));
    }
}

#[test]
fn a_refusal_that_was_read_whole_is_kept_without_its_body() {
    let refusal = refusal([data("slow "), data("down"), Step::Trailers(trailers())]);
    assert!(refusal.is_whole());
    let kept = refusal.kept().unwrap();
    assert_eq!(format!("{kept:?}"), "Refusal { bytes: 9, .. }");
    let mut body = ResponseBody::<Full<Bytes>>::from(kept);
    assert!(!body.is_end_stream());
    assert_eq!(body.size_hint().exact(), Some(9));
    let mut seen = Seen::default();
    read(&mut body, 1, &mut seen);
    assert_eq!(seen.bytes, b"slow down");
    assert!(!body.is_end_stream());
    assert_eq!(read_all(&mut body), Seen::whole("").with_trailers());
    assert!(body.is_end_stream());
}

#[test]
fn a_refusal_of_as_many_bytes_as_the_limit_is_whole() {
    let refusal = refusal([data("0123456789")]);
    assert!(refusal.is_whole());
    assert_eq!(refusal.bytes(), Some(&b"0123456789"[..]));
}

#[test]
fn a_refusal_over_the_limit_is_given_back_with_its_rest() {
    let script = Script::new([
        data("0123"),
        data("456789a"),
        data("b"),
        Step::Trailers(trailers()),
    ]);
    let remote = script.remote();
    let mut refusal = RefusalBody::new(script.at_least(9), LIMIT);
    assert_eq!(polls_until_read(&mut refusal), Some(1));
    assert_eq!(remote.polls(), 2);
    assert!(!refusal.is_whole());
    assert_eq!(refusal.bytes(), Some(&b"0123"[..]));
    let mut body = given_back(refusal);
    assert!(!body.is_end_stream());
    assert_eq!(
        read_all(&mut body),
        Seen::whole("0123456789ab").with_trailers()
    );
    assert!(body.is_end_stream());
    assert!(remote.is_dropped());
}

#[test]
fn a_refusal_that_says_it_is_over_the_limit_is_not_read() {
    let script = Script::new([data("0123456789"), data("a")]).exact(11);
    let remote = script.remote();
    let mut refusal = RefusalBody::new(script, LIMIT);
    assert_eq!(polls_until_read(&mut refusal), Some(1));
    assert_eq!(remote.polls(), 0);
    let mut body = given_back(refusal);
    assert_eq!(body.size_hint().exact(), Some(11));
    assert_eq!(read_all(&mut body), Seen::whole("0123456789a"));
}

#[test]
fn a_refusal_given_back_half_read_goes_on_where_it_was() {
    let (script, remote) = Script::new([data("slow ")]).open();
    let mut refusal = RefusalBody::new(script, LIMIT);
    assert_eq!(polls_until_read(&mut refusal), None);
    assert_eq!(refusal.bytes(), Some(&b"slow "[..]));
    assert!(!refusal.is_whole());
    let mut body = given_back(refusal);
    remote.push(data("down"));
    remote.close();
    assert_eq!(read_all(&mut body), Seen::whole("slow down"));
}

#[test]
fn a_rest_is_dropped_if_the_refusal_is_not_kept() {
    let (script, remote) = Script::new([data("slow ")]).open();
    let mut refusal = RefusalBody::new(script, LIMIT);
    assert_eq!(polls_until_read(&mut refusal), None);
    assert!(refusal.kept().is_none());
    assert!(remote.is_dropped());
}

#[test]
fn an_error_is_met_again_after_the_bytes_before_it() {
    let refusal = refusal([data("slow "), Step::Fail, data("down")]);
    assert!(!refusal.is_whole());
    assert_eq!(refusal.bytes(), Some(&b"slow "[..]));
    let mut body = given_back(refusal);
    let wakes = Wakes::new();
    let frame = poll(&mut body, &wakes);
    assert!(matches!(frame, Poll::Ready(Some(Ok(frame))) if frame.data_ref().unwrap() == "slow "));
    assert!(!body.is_end_stream());
    assert!(matches!(
        poll(&mut body, &wakes),
        Poll::Ready(Some(Err(Broken)))
    ));
    assert_eq!(read_all(&mut body), Seen::whole("down"));
}

#[test]
fn an_error_comes_before_the_end_of_a_body_that_has_ended() {
    let script = Script::new([data("slow "), Step::Fail]).tells_its_end();
    let mut refusal = RefusalBody::new(script, LIMIT);
    assert!(polls_until_read(&mut refusal).is_some());
    let mut body = given_back(refusal);
    read(&mut body, 1, &mut Seen::default());
    assert!(!body.is_end_stream());
    assert_eq!(read_all(&mut body).error.as_deref(), Some("broken"));
    assert!(body.is_end_stream());
}

#[test]
fn a_refusal_that_is_not_whole_is_not_kept() {
    assert!(refusal([data("slow "), Step::Fail]).kept().is_none());
    assert!(refusal([data("0123456789a")]).kept().is_none());
    let script = Script::new([data("0123456789a")]).tells_its_end();
    let mut refusal = RefusalBody::new(script, LIMIT);
    assert!(polls_until_read(&mut refusal).is_some());
    assert!(refusal.kept().is_none());
}

#[test]
fn endless_empty_frames_give_way_and_have_an_end() {
    let script = Script::new([Step::Empty]);
    let remote = script.remote();
    let mut refusal = RefusalBody::new(script, 1000);
    assert_eq!(polls_until_read(&mut refusal), Some(32));
    assert_eq!(remote.polls(), 1001);
    assert!(!refusal.is_whole());
    assert_eq!(refusal.bytes(), None);
}
