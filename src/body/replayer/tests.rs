use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Weak,
    task::Poll,
    thread,
};

use http_body_util::{BodyExt, Empty, Full, StreamBody};
use proptest::prelude::*;

use super::*;
use crate::body::testing::{
    Remote, Script, Seen, Step, Wakes, data, poll, read, read_all, trailers,
};

const CAP: usize = 100;
const SUPERSEDED: &str =
    "the request is to be sent again: its body belongs to the next attempt now";

fn exact(body: &impl Body) -> Option<u64> {
    body.size_hint().exact()
}

/// Reads a number of frames of a body that has more of them.
fn read_some<B>(body: &mut ReplayBody<B>, frames: usize) -> Vec<u8>
where
    B: Body<Error: Into<BoxError>>,
{
    let mut seen = Seen::default();
    read(body, frames, &mut seen);
    assert!(!seen.ended && seen.error.is_none(), "{seen:?}");
    seen.bytes
}

#[test]
fn an_empty_body_is_not_kept_and_ends_before_it_is_polled() {
    let mut replayer = Replayer::new(Empty::<Bytes>::new(), CAP);
    assert!(matches!(replayer.content, Content::Known(_)));
    for _ in 0..2 {
        let mut body = replayer.attempt().unwrap();
        assert!(body.is_end_stream());
        assert_eq!(exact(&body), Some(0));
        assert_eq!(body.known_bytes(), Some(Bytes::new()));
        assert_eq!(read_all(&mut body), Seen::whole(""));
    }
}

#[test]
fn the_default_is_empty_whatever_the_body_is() {
    struct NotABody;
    let body = ReplayBody::<NotABody>::default();
    assert_eq!(body.known_bytes(), Some(Bytes::new()));
    assert_eq!(format!("{body:?}"), r#"ReplayBody { kind: "known", .. }"#);

    let mut body = ReplayBody::<Script>::default();
    assert!(body.is_end_stream());
    assert_eq!(read_all(&mut body), Seen::whole(""));
}

#[test]
fn a_body_in_memory_is_sent_by_every_attempt_without_a_copy() {
    let bytes = Bytes::from_static(b"in memory");
    let mut replayer = Replayer::new(Full::new(bytes.clone()), CAP);
    assert!(matches!(replayer.content, Content::Known(_)));
    for _ in 0..3 {
        let mut body = replayer.attempt().unwrap();
        assert!(!body.is_end_stream());
        assert_eq!(exact(&body), Some(9));
        assert_eq!(body.known_bytes().unwrap().as_ptr(), bytes.as_ptr());

        let frame = poll(&mut body, &Wakes::new());
        let Poll::Ready(Some(Ok(frame))) = frame else {
            panic!("expected a frame, found {frame:?}")
        };
        assert_eq!(frame.data_ref().unwrap().as_ptr(), bytes.as_ptr());
        assert!(body.is_end_stream());
        assert_eq!(exact(&body), Some(0));
        assert_eq!(body.known_bytes(), None);
        assert!(replayer.freeze());
    }
}

#[test]
fn a_body_that_does_not_tell_its_end_is_read_ahead_to_it() {
    let body = Script::new([data("all")]).exact(3);
    let remote = body.remote();
    let mut replayer = Replayer::new(body, CAP);
    assert!(remote.is_dropped());
    assert!(matches!(replayer.content, Content::Known(_)));
    assert_eq!(replayer.known_bytes().unwrap(), "all");
    assert_eq!(
        read_all(&mut replayer.attempt().unwrap()),
        Seen::whole("all")
    );
}

#[test]
fn several_frames_of_an_exact_body_are_known_before_the_first_attempt() {
    let mut replayer = Replayer::new(Script::new([data("a"), data("b"), data("c")]).exact(3), CAP);
    let mut body = replayer.attempt().unwrap();
    assert_eq!(body.known_bytes().unwrap(), "abc");
    assert_eq!(exact(&body), Some(3));
    assert_eq!(read_all(&mut body), Seen::whole("abc"));
    assert_eq!(
        read_all(&mut replayer.attempt().unwrap()),
        Seen::whole("abc")
    );
}

#[test]
fn a_body_read_ahead_ends_with_its_last_byte() {
    let mut replayer = Replayer::new(Script::new([data("a"), data("b")]).exact(2), CAP);
    let mut body = replayer.attempt().unwrap();
    assert_eq!(read_some(&mut body, 1), b"a");
    assert!(!body.is_end_stream());
    assert_eq!(exact(&body), Some(1));
    assert_eq!(body.known_bytes(), None);
    assert_eq!(read_some(&mut body, 1), b"b");
    assert!(body.is_end_stream());
    assert_eq!(exact(&body), Some(0));
}

#[test]
fn a_streamed_body_that_tells_its_end_ends_with_its_last_byte() {
    let mut replayer = Replayer::new(Script::new([data("a")]).tells_its_end(), CAP);
    let mut body = replayer.attempt().unwrap();
    assert!(!body.is_end_stream());
    assert_eq!(read_some(&mut body, 1), b"a");
    assert!(body.is_end_stream());
    assert_eq!(exact(&body), Some(0));
}

#[test]
fn a_body_at_its_end_is_not_taken_away() {
    let ends: [fn() -> Step; 3] = [
        || data("a"),
        || Step::Trailers(trailers()),
        || Step::Data(Bytes::new()),
    ];
    for end in ends {
        let script = Script::new([data("b"), end()]).tells_its_end();
        let mut replayer = Replayer::new(script, CAP);
        let mut first = replayer.attempt().unwrap();
        read_some(&mut first, 2);
        assert!(first.is_end_stream());
        assert!(replayer.freeze());
        assert!(first.is_end_stream());
        assert_eq!(exact(&first), Some(0));
        assert_eq!(read_all(&mut first), Seen::whole(""));
    }
}

#[test]
fn the_trailers_are_replayed() {
    for script in [
        Script::new([data("a"), Step::Trailers(trailers())]),
        Script::new([data("a"), Step::Trailers(trailers())]).exact(1),
    ] {
        let mut replayer = Replayer::new(script, CAP);
        for _ in 0..2 {
            let mut body = replayer.attempt().unwrap();
            assert_eq!(body.known_bytes(), None);
            assert_eq!(read_some(&mut body, 1), b"a");
            assert!(!body.is_end_stream());
            assert_eq!(read_all(&mut body), Seen::whole("").with_trailers());
            assert!(body.is_end_stream());
        }
    }
}

#[test]
fn a_body_ends_with_its_trailers_and_not_before() {
    let script = Script::new([data("a"), Step::Trailers(trailers())]);
    let mut replayer = Replayer::new(script.tells_its_end(), CAP);
    for _ in 0..2 {
        let mut body = replayer.attempt().unwrap();
        let mut seen = Seen::default();
        read(&mut body, 1, &mut seen);
        assert!(!body.is_end_stream());
        read(&mut body, 1, &mut seen);
        assert!(seen.trailers.is_some());
        assert!(body.is_end_stream());
    }
}

#[test]
fn the_size_hint_is_the_same_at_the_start_of_each_attempt_and_shrinks() {
    let mut replayer = Replayer::new(
        Script::new([Step::Yield, data("ab"), data("c")]).exact(3),
        CAP,
    );
    for _ in 0..3 {
        let mut body = replayer.attempt().unwrap();
        assert_eq!(exact(&body), Some(3));
        assert_eq!(read_some(&mut body, 1), b"ab");
        assert_eq!(exact(&body), Some(1));
        assert_eq!(read_all(&mut body), Seen::whole("c"));
        assert_eq!(exact(&body), Some(0));
    }

    let mut replayer = Replayer::new(Script::new([data("ab"), data("c")]).at_least(3), CAP);
    let range = |body: &ReplayBody<_>| (body.size_hint().lower(), body.size_hint().upper());
    for upper in [None, Some(1)] {
        let mut body = replayer.attempt().unwrap();
        assert_eq!(range(&body), (3, None));
        assert_eq!(read_some(&mut body, 1), b"ab");
        assert_eq!(range(&body), (1, upper));
        read_all(&mut body);
    }
}

#[test]
fn a_body_dropped_before_it_was_polled_is_sent_once_by_the_next_attempt() {
    let mut replayer = Replayer::new(Script::new([data("a"), data("b")]), CAP);
    drop(replayer.attempt());
    assert!(replayer.freeze());
    assert_eq!(
        read_all(&mut replayer.attempt().unwrap()),
        Seen::whole("ab")
    );
}

#[test]
fn a_body_dropped_half_way_is_sent_once_by_the_next_attempt() {
    let mut replayer = Replayer::new(Script::new([data("a"), data("b"), data("c")]), CAP);
    let mut first = replayer.attempt().unwrap();
    assert_eq!(read_some(&mut first, 2), b"ab");
    drop(first);
    assert!(replayer.freeze());
    assert_eq!(
        read_all(&mut replayer.attempt().unwrap()),
        Seen::whole("abc")
    );
}

#[test]
fn nothing_is_read_between_a_freeze_and_the_next_attempt() {
    let (script, remote) = Script::new([data("a")]).open();
    let mut replayer = Replayer::new(script, CAP);
    let mut first = replayer.attempt().unwrap();
    let wakes = Wakes::new();
    assert!(poll(&mut first, &wakes).is_ready());
    assert!(poll(&mut first, &wakes).is_pending());

    assert!(replayer.freeze());
    assert_eq!(wakes.count(), 1);
    assert!(replayer.freeze());
    remote.push(data("b"));
    remote.close();
    let polls = remote.polls();
    assert!(!first.is_end_stream());
    assert_eq!(exact(&first), None);
    assert_eq!(first.known_bytes(), None);
    assert_eq!(read_all(&mut first).error.as_deref(), Some(SUPERSEDED));
    assert_eq!(read_all(&mut first), Seen::whole(""));
    assert_eq!(remote.polls(), polls);

    assert_eq!(
        read_all(&mut replayer.attempt().unwrap()),
        Seen::whole("ab")
    );
}

#[test]
fn an_attempt_supersedes_the_one_before_without_a_freeze() {
    let (script, remote) = Script::new([data("a")]).open();
    let mut replayer = Replayer::new(script, CAP);
    let mut first = replayer.attempt().unwrap();
    let wakes = Wakes::new();
    assert!(poll(&mut first, &wakes).is_ready());
    assert!(poll(&mut first, &wakes).is_pending());

    let mut second = replayer.attempt().unwrap();
    assert_eq!(wakes.count(), 1);
    assert_eq!(read_all(&mut first).error.as_deref(), Some(SUPERSEDED));
    remote.close();
    assert_eq!(read_all(&mut second), Seen::whole("a"));
}

#[test]
fn a_later_attempt_knows_the_bytes_that_an_earlier_one_has_read() {
    let mut replayer = Replayer::new(Script::new([data("a"), data("b")]), CAP);
    let mut first = replayer.attempt().unwrap();
    assert_eq!(first.known_bytes(), None);
    read_all(&mut first);
    assert!(replayer.freeze());
    assert_eq!(replayer.known_bytes().unwrap(), "ab");
    let mut second = replayer.attempt().unwrap();
    assert_eq!(second.known_bytes().unwrap(), "ab");
    assert_eq!(read_all(&mut second), Seen::whole("ab"));
}

#[test]
fn a_body_over_the_cap_is_sent_once_and_whole() {
    let script = Script::new([data("abc"), data("def"), data("g")]);
    let mut replayer = Replayer::new(script, 5);
    let mut first = replayer.attempt().unwrap();
    assert_eq!(read_some(&mut first, 1), b"abc");
    assert!(replayer.can_replay());
    assert_eq!(read_some(&mut first, 1), b"def");
    assert!(!replayer.can_replay());
    assert!(!replayer.freeze());
    assert!(replayer.attempt().is_none());
    assert_eq!(read_all(&mut first), Seen::whole("g"));
}

#[test]
fn a_body_of_as_many_bytes_as_the_cap_is_kept() {
    for script in [
        Script::new([data("abc")]),
        Script::new([data("abc")]).exact(3),
    ] {
        let mut replayer = Replayer::new(script, 3);
        assert_eq!(
            read_all(&mut replayer.attempt().unwrap()),
            Seen::whole("abc")
        );
        assert_eq!(
            read_all(&mut replayer.attempt().unwrap()),
            Seen::whole("abc")
        );
    }
}

#[test]
fn a_body_that_says_it_is_over_the_cap_is_sent_again_only_if_it_was_not_begun() {
    let mut replayer = Replayer::new(Script::new([data("abc"), data("def")]).exact(6), 5);
    assert_eq!(replayer.known_bytes(), None);
    drop(replayer.attempt());
    assert!(replayer.freeze());
    let mut second = replayer.attempt().unwrap();
    assert_eq!(read_some(&mut second, 1), b"abc");
    assert!(!replayer.can_replay());
    assert_eq!(exact(&second), Some(3));
    assert_eq!(read_all(&mut second), Seen::whole("def"));
}

#[test]
fn a_frozen_body_never_passes_the_cap_while_the_call_waits() {
    let (script, remote) = Script::new([data("abc")]).open();
    let mut replayer = Replayer::new(script, 5);
    let mut first = replayer.attempt().unwrap();
    assert_eq!(read_some(&mut first, 2), b"abc");
    assert!(replayer.freeze());
    remote.push(data("def"));
    remote.close();
    read_all(&mut first);

    // The second attempt passes it by its own reading, unharmed, and is the last one.
    let mut second = replayer.attempt().unwrap();
    assert_eq!(read_all(&mut second), Seen::whole("abcdef"));
    assert!(!replayer.freeze());
    assert!(replayer.attempt().is_none());
}

#[test]
fn sizes_that_are_lies_break_nothing() {
    // Shorter than it says: as short to the server as it would be without us.
    let mut replayer = Replayer::new(Script::new([data("abc")]).exact(10), CAP);
    for _ in 0..2 {
        let mut body = replayer.attempt().unwrap();
        assert_eq!(exact(&body), Some(10));
        assert_eq!(read_all(&mut body), Seen::whole("abc"));
    }
    // Longer than it says, within the cap.
    let mut replayer = Replayer::new(Script::new([data("abc"), data("d")]).exact(1), CAP);
    for _ in 0..2 {
        let mut body = replayer.attempt().unwrap();
        assert_eq!(exact(&body), Some(1));
        assert_eq!(read_some(&mut body, 1), b"abc");
        assert_eq!(read_all(&mut body), Seen::whole("d"));
    }
    // Longer than it says, over the cap: no more is read ahead than that takes.
    let script = Script::new([data("abc"), data("def"), data("ghi")]).exact(1);
    let remote = script.remote();
    let mut replayer = Replayer::new(script, 5);
    assert_eq!(remote.polls(), 2);
    let mut body = replayer.attempt().unwrap();
    assert!(!replayer.can_replay());
    assert_eq!(read_all(&mut body), Seen::whole("abcdefghi"));
    assert!(replayer.attempt().is_none());
    // One frame over the cap.
    let mut replayer = Replayer::new(Script::new([data("abcdef")]).exact(1), 5);
    assert_eq!(
        read_all(&mut replayer.attempt().unwrap()),
        Seen::whole("abcdef")
    );
    assert!(replayer.attempt().is_none());
}

#[test]
fn an_error_ends_the_attempt_and_is_the_last() {
    let mut replayer = Replayer::new(Script::new([data("a"), Step::Fail, data("b")]), CAP);
    let mut first = replayer.attempt().unwrap();
    let seen = read_all(&mut first);
    assert_eq!(
        (seen.bytes.as_slice(), seen.error.as_deref()),
        (&b"a"[..], Some("broken"))
    );
    assert!(!replayer.freeze());
    assert!(replayer.attempt().is_none());
}

#[test]
fn an_error_met_while_reading_ahead_is_yielded_in_its_place() {
    let script = Script::new([data("a"), Step::Fail]).exact(2);
    let remote = script.remote();
    let mut replayer = Replayer::new(script, CAP);
    assert_eq!(remote.polls(), 2);
    assert_eq!(replayer.known_bytes(), None);
    let mut first = replayer.attempt().unwrap();
    assert_eq!(exact(&first), Some(2));
    assert_eq!(read_some(&mut first, 1), b"a");
    assert!(!first.is_end_stream());
    assert_eq!(read_all(&mut first).error.as_deref(), Some("broken"));
    assert!(replayer.attempt().is_none());
}

#[test]
fn a_body_that_panics_has_failed() {
    let mut replayer = Replayer::new(Script::new([data("a"), Step::Panic]), CAP);
    let mut first = replayer.attempt().unwrap();
    assert_eq!(read_some(&mut first, 1), b"a");
    catch_unwind(AssertUnwindSafe(|| read_all(&mut first))).unwrap_err();
    assert!(!replayer.can_replay());
    assert!(!replayer.freeze());
    assert!(replayer.attempt().is_none());
    let error = read_all(&mut first).error.unwrap();
    assert_eq!(
        error,
        "the request body panicked when it was read: its rest is lost"
    );
}

#[test]
fn endless_empty_frames_neither_spin_nor_pile_up() {
    let script = Script::new([Step::Empty]).exact(7);
    let remote = script.remote();
    let mut replayer = Replayer::new(script, CAP);
    assert_eq!(remote.polls(), 32);
    let mut body = replayer.attempt().unwrap();
    for _ in 0..1000 {
        let frame = poll(&mut body, &Wakes::new());
        assert!(
            matches!(&frame, Poll::Ready(Some(Ok(frame))) if frame.data_ref().unwrap().is_empty())
        );
    }
    assert_eq!(remote.polls(), 32 + 1000);
    let mut second = replayer.attempt().unwrap();
    assert_eq!(read_some(&mut second, 1), b"");
    assert_eq!(remote.polls(), 32 + 1001);
}

#[test]
fn a_body_of_many_frames_is_not_read_ahead_to_its_end() {
    let script = Script::new((0..100).map(|_| data("a"))).exact(100);
    let remote = script.remote();
    let mut replayer = Replayer::new(script, CAP);
    assert_eq!(remote.polls(), 32);
    let mut body = replayer.attempt().unwrap();
    assert_eq!(body.known_bytes(), None);
    assert_eq!(read_all(&mut body), Seen::whole(&"a".repeat(100)));
    assert_eq!(
        read_all(&mut replayer.attempt().unwrap()),
        Seen::whole(&"a".repeat(100))
    );
}

#[test]
fn a_body_of_unknown_size_is_not_read_ahead() {
    let script = Script::new([data("a")]).at_least(1);
    let remote = script.remote();
    let _replayer = Replayer::new(script, CAP);
    assert_eq!(remote.polls(), 0);
}

#[test]
fn an_attempt_sends_all_of_it_after_a_release() {
    let mut replayer = Replayer::new(Script::new([data("abc"), data("def"), data("ghi")]), CAP);
    drop(read_some(&mut replayer.attempt().unwrap(), 2));
    let mut second = replayer.attempt().unwrap();
    assert_eq!(read_some(&mut second, 1), b"abc");
    replayer.release();
    assert!(!replayer.can_replay());
    assert!(!replayer.freeze());
    assert!(replayer.attempt().is_none());
    assert_eq!(read_all(&mut second), Seen::whole("defghi"));
}

#[test]
fn what_is_sent_is_freed_after_a_release() {
    /// Bytes that tell whether they are still alive.
    fn watched(bytes: &'static str) -> (Step, Weak<String>) {
        struct Owner(Arc<String>);
        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                self.0.as_bytes()
            }
        }
        let owner = Arc::new(bytes.to_owned());
        let watch = Arc::downgrade(&owner);
        (Step::Data(Bytes::from_owner(Owner(owner))), watch)
    }
    let (steps, watches): (Vec<_>, Vec<_>) = ["a", "b", "c", "d"].map(watched).into_iter().unzip();
    let alive = || {
        watches
            .iter()
            .filter(|watch| watch.strong_count() > 0)
            .count()
    };
    let mut replayer = Replayer::new(Script::new(steps), CAP);
    let mut first = replayer.attempt().unwrap();
    read_some(&mut first, 3);
    assert_eq!(alive(), 4);
    drop(first);
    let mut second = replayer.attempt().unwrap();
    read_some(&mut second, 1);
    assert_eq!(alive(), 4);
    drop(replayer);
    assert_eq!(alive(), 3);
    read_some(&mut second, 1);
    assert_eq!(alive(), 2);
    assert_eq!(read_all(&mut second), Seen::whole("cd"));
    assert_eq!(alive(), 0);
}

#[test]
fn nothing_is_kept_when_there_is_no_attempt_any_more() {
    let script = Script::new([data("a"), data("b")]);
    let remote = script.remote();
    let mut replayer = Replayer::new(script, CAP);
    let mut first = replayer.attempt().unwrap();
    read_some(&mut first, 1);
    assert!(replayer.freeze());
    assert!(!remote.is_dropped());
    drop(replayer);
    assert!(remote.is_dropped());
    assert_eq!(read_all(&mut first).error.as_deref(), Some(SUPERSEDED));
}

#[test]
fn an_attempt_outlives_the_call() {
    let (script, remote) = Script::new([data("a")]).open();
    let mut replayer = Replayer::new(script, CAP);
    let mut first = replayer.attempt().unwrap();
    assert_eq!(read_some(&mut first, 2), b"a");
    drop(replayer);
    remote.push(data("b"));
    remote.close();
    assert_eq!(read_all(&mut first), Seen::whole("b"));
}

#[test]
fn a_body_passed_through_is_sent_once_as_it_is() {
    let script = Script::new([data("a"), Step::Trailers(trailers())]).exact(1);
    let remote = script.remote();
    let mut replayer = Replayer::passthrough(script);
    assert!(replayer.can_replay());
    let mut body = replayer.attempt().unwrap();
    assert_eq!(remote.polls(), 0);
    assert_eq!(exact(&body), Some(1));
    assert_eq!(body.known_bytes(), None);
    assert!(!body.is_end_stream());
    assert!(!replayer.freeze());
    assert!(replayer.attempt().is_none());
    drop(replayer);
    assert_eq!(read_all(&mut body), Seen::whole("a").with_trailers());

    let mut replayer = Replayer::passthrough(Empty::<Bytes>::new());
    assert!(replayer.attempt().unwrap().is_end_stream());
}

#[test]
fn a_body_that_freezes_its_own_call_does_not_lock_up() {
    let replayer = Arc::new(Mutex::new(None::<Replayer<Script>>));
    let freeze = {
        let replayer = replayer.clone();
        Step::Call(Box::new(move || {
            assert!(replayer.lock().unwrap().as_ref().unwrap().freeze());
        }))
    };
    let script = Script::new([data("a"), freeze, data("b"), data("c")]);
    *replayer.lock().unwrap() = Some(Replayer::new(script, CAP));
    let mut first = replayer
        .lock()
        .unwrap()
        .as_mut()
        .unwrap()
        .attempt()
        .unwrap();
    let seen = read_all(&mut first);
    assert_eq!(
        (seen.bytes.as_slice(), seen.error.as_deref()),
        (&b"a"[..], Some(SUPERSEDED))
    );
    let mut second = replayer
        .lock()
        .unwrap()
        .as_mut()
        .unwrap()
        .attempt()
        .unwrap();
    assert_eq!(read_all(&mut second), Seen::whole("abc"));
}

/// A script whose first poll starts the next attempt, polls it, and then goes on with `rest`.
fn taken_over_while_polled(cap: usize, rest: Vec<Step>) -> (Option<String>, Seen, Remote, usize) {
    type Cell<T> = Arc<Mutex<Option<T>>>;
    let replayer: Cell<Replayer<Script>> = Cell::default();
    let second: Cell<ReplayBody<Script>> = Cell::default();
    let wakes = Wakes::new();
    let take_over = {
        let (replayer, second, wakes) = (replayer.clone(), second.clone(), wakes.clone());
        Step::Call(Box::new(move || {
            let mut body = replayer
                .lock()
                .unwrap()
                .as_mut()
                .unwrap()
                .attempt()
                .unwrap();
            assert!(poll(&mut body, &wakes).is_pending());
            *second.lock().unwrap() = Some(body);
        }))
    };
    let script = Script::new([take_over].into_iter().chain(rest));
    let remote = script.remote();
    *replayer.lock().unwrap() = Some(Replayer::new(script, cap));
    let mut first = replayer
        .lock()
        .unwrap()
        .as_mut()
        .unwrap()
        .attempt()
        .unwrap();
    let read = catch_unwind(AssertUnwindSafe(|| read_all(&mut first)));
    assert_eq!(wakes.count(), 1);
    let mut second = second.lock().unwrap().take().unwrap();
    let seen = read_all(&mut second);
    let can_replay = replayer.lock().unwrap().as_ref().unwrap().can_replay();
    (
        read.ok().and_then(|seen| seen.error),
        seen,
        remote,
        usize::from(can_replay),
    )
}

#[test]
fn an_attempt_waits_for_an_older_one_that_is_reading_and_gets_what_it_read() {
    let superseded = Some(SUPERSEDED.to_owned());
    let (first, second, ..) = taken_over_while_polled(CAP, vec![data("a"), data("b")]);
    assert_eq!((first, second), (superseded.clone(), Seen::whole("ab")));

    let (first, second, ..) = taken_over_while_polled(CAP, vec![Step::Yield, data("a")]);
    assert_eq!((first, second), (superseded.clone(), Seen::whole("a")));

    let (first, second, ..) = taken_over_while_polled(CAP, vec![]);
    assert_eq!((first, second), (superseded.clone(), Seen::whole("")));

    // Over the cap: promised to the second attempt, which is the last one then.
    let (first, second, _, replays) = taken_over_while_polled(3, vec![data("long"), data("er")]);
    assert_eq!(
        (first, second, replays),
        (superseded.clone(), Seen::whole("longer"), 0)
    );

    let (first, second, _, replays) = taken_over_while_polled(CAP, vec![Step::Fail]);
    assert_eq!(
        (first, second.error.as_deref(), replays),
        (superseded, Some("broken"), 0)
    );
}

#[test]
fn an_attempt_that_waits_for_an_older_one_is_told_if_that_panics() {
    let (first, second, remote, replays) = taken_over_while_polled(CAP, vec![Step::Panic]);
    assert_eq!((first, replays), (None, 0));
    assert!(second.error.unwrap().contains("panicked"));
    assert!(remote.is_dropped());
}

#[test]
fn attempts_on_different_threads_lose_nothing() {
    let expected: String = (0..200).map(|n| char::from(b'a' + n % 26)).collect();
    for round in 0..50 {
        let steps = expected
            .clone()
            .into_bytes()
            .into_iter()
            .flat_map(|byte| [Step::Data(Bytes::copy_from_slice(&[byte])), Step::Yield]);
        let mut replayer = Replayer::new(Script::new(steps), 1000);
        let mut first = replayer.attempt().unwrap();
        let older = thread::spawn(move || read_all(&mut first));
        for _ in 0..round {
            thread::yield_now();
        }
        assert!(replayer.freeze());
        let second = read_all_blocking(replayer.attempt().unwrap());
        assert_eq!(second, expected.as_bytes());
        let older = older.join().unwrap();
        assert!(older.ended || older.error.as_deref() == Some(SUPERSEDED));
        assert!(expected.as_bytes().starts_with(&older.bytes));
    }
}

fn read_all_blocking(body: ReplayBody<Script>) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(body.collect()).unwrap().to_bytes().into()
}

#[test]
fn hosts_of_every_kind_can_take_the_body() {
    fn unpin<T: Unpin>(_: &T) {}
    fn send_and_sync<T: Send + Sync>(_: &T) {}
    // Neither `Unpin` nor `Sync` itself.
    let mut replayer = Replayer::new(Script::new([]), CAP);
    let body = replayer.attempt().unwrap();
    unpin(&body);
    send_and_sync(&body);
    let boxed = BodyExt::boxed(body);
    send_and_sync(&boxed);

    let stream = StreamBody::new(futures_util::stream::pending::<
        Result<http_body::Frame<Bytes>, BoxError>,
    >());
    unpin(&Replayer::new(stream, CAP).attempt().unwrap());
}

/// One attempt of a random history.
#[derive(Clone, Debug)]
struct Plan {
    polls: usize,
    freeze: bool,
    /// Whether the body of the attempt outlives it.
    keep: bool,
}

#[derive(Clone, Debug)]
struct History {
    /// Lengths, or a poll that gives nothing.
    frames: Vec<Option<u8>>,
    trailers: bool,
    exact: bool,
    tells_its_end: bool,
    cap: usize,
    plans: Vec<Plan>,
}

fn histories() -> impl Strategy<Value = History> {
    let plan = (0..14_usize, any::<bool>(), any::<bool>());
    let plan = plan.prop_map(|(polls, freeze, keep)| Plan {
        polls,
        freeze,
        keep,
    });
    let frames = prop::collection::vec(prop::option::weighted(0.8, 0..4_u8), 0..10);
    let plans = prop::collection::vec(plan, 0..5);
    (frames, any::<[bool; 3]>(), 0..30_usize, plans).prop_map(
        |(frames, [trailers, exact, tells_its_end], cap, plans)| History {
            frames,
            trailers,
            exact,
            tells_its_end,
            cap,
            plans,
        },
    )
}

impl History {
    /// The body, and all that is to be seen of it.
    fn body(&self) -> (Script, Seen) {
        let mut bytes = Vec::new();
        let mut steps = Vec::new();
        for frame in &self.frames {
            let Some(len) = frame else {
                steps.push(Step::Yield);
                continue;
            };
            let start = bytes.len();
            bytes.extend((0..*len).map(|n| start as u8 + n));
            steps.push(Step::Data(Bytes::copy_from_slice(&bytes[start..])));
        }
        steps.extend(self.trailers.then(|| Step::Trailers(trailers())));
        let mut script = Script::new(steps);
        if self.exact {
            script = script.exact(bytes.len() as u64);
        }
        if self.tells_its_end {
            script = script.tells_its_end();
        }
        let trailers = self.trailers.then(trailers);
        let whole = Seen {
            bytes,
            trailers,
            error: None,
            ended: true,
        };
        (script, whole)
    }

    /// Plays the attempts of the plan, and a last one that is sent to its end.
    fn play(&self, release: bool) {
        let (script, whole) = self.body();
        // An empty body is known to be empty, whether it says so or not.
        let size = script
            .size_hint()
            .exact()
            .or(script.is_end_stream().then_some(0));
        let mut replayer = Replayer::new(script, self.cap);
        let mut older = Vec::new();
        let mut over = false;
        for plan in &self.plans {
            let Some(mut body) = replayer.attempt() else {
                break;
            };
            assert!(!over);
            assert_eq!(exact(&body), size);
            let seen = read_checked(&mut body, plan.polls, &whole);
            over = whole.bytes.len() > self.cap && seen.bytes.len() > self.cap;
            if plan.freeze && !replayer.freeze() {
                assert!(whole.bytes.len() > self.cap && !seen.bytes.is_empty());
                return read_to_the_end(body, seen, &whole);
            }
            if plan.keep {
                older.push((body, seen));
            }
        }
        let Some(last) = replayer.attempt() else {
            return assert!(whole.bytes.len() > self.cap && !self.plans.is_empty());
        };
        if release {
            drop(replayer);
        }
        for (mut body, mut seen) in older {
            read(&mut body, 1000, &mut seen);
            assert!(seen == whole || seen.error.as_deref() == Some(SUPERSEDED));
        }
        read_to_the_end(last, Seen::default(), &whole);
    }
}

fn read_checked(body: &mut ReplayBody<Script>, polls: usize, whole: &Seen) -> Seen {
    let mut seen = Seen::default();
    for _ in 0..polls {
        read(body, 1, &mut seen);
        assert_eq!(seen.error, None);
        assert!(whole.bytes.starts_with(&seen.bytes));
        let left = (whole.bytes.len() - seen.bytes.len()) as u64;
        let hint = body.size_hint();
        assert!(hint.lower() <= left && hint.upper().is_none_or(|upper| left <= upper));
        if body.is_end_stream() {
            assert_eq!(
                (&seen.bytes, &seen.trailers),
                (&whole.bytes, &whole.trailers)
            );
        }
    }
    seen
}

fn read_to_the_end(mut body: ReplayBody<Script>, mut seen: Seen, whole: &Seen) {
    read(&mut body, 1000, &mut seen);
    assert_eq!(&seen, whole);
    assert!(body.is_end_stream());
}

proptest! {
    #[test]
    fn every_attempt_that_is_sent_to_its_end_carries_all_of_the_body(
        history in histories(),
        release: bool,
    ) {
        history.play(release);
    }
}
