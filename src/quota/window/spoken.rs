//! Which window an answer speaks of, by the times of its request and by the end that it tells.

use super::tests::{announcement, requests};
use crate::quota::{
    Cost, Unit,
    dimension::Answer,
    end::{End, Rounding},
    present::{Present, Spoken},
    told::Told,
};
use std::time::Duration;
use tokio::time::Instant;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// An answer to what was sent and answered so many milliseconds after the epoch: of 100 so many
/// remain until a reset of so many seconds.
fn told(epoch: Instant, (sent, came): (u64, u64), remaining: u64, reset: &str) -> Told {
    let answer = Answer {
        now: epoch + ms(came),
        sent_at: epoch + ms(sent),
        cost: requests(1),
        uncounted: Cost::NONE,
        is_refused: false,
        on_the_way: ms(100),
    };
    let announced = announcement("100", &remaining.to_string(), reset).unwrap();
    Told::of(&answer, &announced, Unit::Requests).unwrap()
}

/// A window that is met after 5 s: it ends between 14 and 15 s, and is 10 s long.
fn known(epoch: Instant) -> Present {
    let told = told(epoch, (5_000, 5_000), 50, "10");
    Present::met(&told, told.end(Rounding::Up))
}

/// The one after it, which the clock has opened.
fn opened(epoch: Instant) -> Present {
    let opened = known(epoch).at(epoch + ms(15_000));
    assert!(opened.is_opened_at(epoch + ms(15_000)) && !opened.is_told());
    opened
}

/// Whether it is the window that is on, and then between what it ends.
fn assert_spoken(
    present: &Present,
    epoch: Instant,
    (sent, came, reset): (u64, u64, &str),
    expected: Result<(u64, u64), Spoken>,
) {
    let told = told(epoch, (sent, came), 40, reset);
    let expected = expected.map_or_else(
        |other| other,
        |(earliest, latest)| {
            let [earliest, latest] = [earliest, latest].map(|at| epoch + ms(at));
            Spoken::Present(End { earliest, latest })
        },
    );
    let spoken = present.spoken_of(&told, told.end(Rounding::Up));
    assert_eq!(spoken, expected, "sent {sent}, came {came}, reset {reset}");
}

#[test]
fn of_a_window_whose_end_is_known() {
    let epoch = Instant::now();
    for (answer, expected) in [
        // What both allow is left.
        ((7_500, 7_600, "7"), Ok((14_000, 14_600))),
        // It may have been on its way since before this one began.
        ((4_000, 14_500, "1"), Err(Spoken::Unclear)),
        ((4_000, 14_000, "2"), Err(Spoken::Unclear)),
        ((4_001, 14_000, "2"), Ok((14_000, 15_000))),
        ((5_000, 14_500, "1"), Ok((14_000, 15_000))),
        // It may be of the next one, whose end comes 10 s later.
        ((5_100, 14_500, "10"), Err(Spoken::Unclear)),
        ((5_500, 14_100, "10"), Ok((14_500, 24_100))),
        ((5_500, 14_000, "10"), Ok((14_500, 24_000))),
        ((5_500, 13_999, "10"), Ok((14_500, 15_000))),
        ((4_000, 13_999, "11"), Ok((14_000, 15_000))),
        // It is not of this one: this one is over, or cannot be over yet.
        ((14_500, 14_600, "10"), Err(Spoken::Next)),
        ((13_999, 14_000, "11"), Err(Spoken::Next)),
        ((13_999, 13_999, "11"), Err(Spoken::Moved)),
        // It ends earlier than what was told before it was sent, or after that.
        ((5_000, 5_100, "3"), Err(Spoken::Moved)),
        ((4_999, 5_100, "3"), Err(Spoken::Former)),
        ((4_000, 4_100, "1"), Err(Spoken::Former)),
    ] {
        assert_spoken(&known(epoch), epoch, answer, expected);
    }
}

#[test]
fn of_a_window_whose_end_is_hardly_known_any_answer_tells_more() {
    let epoch = Instant::now();
    let told = told(epoch, (0, 12_000), 50, "10");
    let vague = Present::met(&told, told.end(Rounding::Up));
    let answer = (12_000, 22_000, "10");
    assert_spoken(&vague, epoch, answer, Ok((21_000, 32_000)));
}

#[test]
fn of_a_window_that_the_clock_has_opened() {
    let epoch = Instant::now();
    for (answer, expected) in [
        ((14_900, 15_100, "1"), Err(Spoken::Unclear)),
        ((14_000, 15_100, "2"), Err(Spoken::Unclear)),
        ((14_001, 15_100, "2"), Ok((15_001, 17_100))),
        ((14_900, 15_100, "10"), Ok((23_900, 25_100))),
        ((15_000, 15_100, "1"), Ok((15_000, 16_100))),
        ((15_100, 15_200, "0"), Ok((14_100, 15_200))),
    ] {
        assert_spoken(&opened(epoch), epoch, answer, expected);
    }
}

#[test]
fn the_clock_was_early_if_less_than_a_second_is_left_of_what_it_has_opened() {
    let epoch = Instant::now();
    let end = |latest| End {
        earliest: epoch,
        latest: epoch + ms(latest),
    };
    for (sent, latest, is_early) in [
        (15_000, 15_999, true),
        (15_000, 16_000, false),
        (14_999, 15_999, false),
        (15_500, 15_600, true),
    ] {
        let sent_at = epoch + ms(sent);
        let is_opened_early = opened(epoch).opened_too_early(sent_at, end(latest));
        assert_eq!(is_opened_early, is_early, "{sent} {latest}");
        assert!(!known(epoch).opened_too_early(sent_at, end(latest)));
    }
}

#[test]
fn is_on_from_the_end_of_the_one_before() {
    let epoch = Instant::now();
    let [before, at] = [14_999, 15_000].map(|at| epoch + ms(at));
    assert!(known(epoch).at(before).is_opened_at(epoch + ms(5_000)));
    let opened = opened(epoch);
    assert!(!opened.is_opened_at(before) && !opened.is_opened_by(before));
    assert!(opened.is_opened_by(at));
    assert_eq!(opened.length(), ms(10_000));
    assert_eq!(opened.next(at, 0).length(), ms(10_000), "as before it");
}

#[test]
fn asks_after_a_time_that_goes_by_what_is_under_way() {
    let epoch = Instant::now();
    let at = |milliseconds| epoch + ms(milliseconds);
    assert_eq!(known(epoch).shut_until(), at(15_000));
    let mut present = opened(epoch);
    assert_eq!(present.shut_until(), at(25_000), "nobody will tell");
    for now in [50_000, 60_000] {
        present.reserve(at(now), 1, 1);
        assert_eq!(
            present.shut_until(),
            at(80_000),
            "half a minute after the first"
        );
    }
    present.asks(at(65_000));
    assert_eq!(present.shut_until(), at(95_000));
}

#[test]
fn one_that_no_answer_speaks_of_lasts_a_second_at_least_and_one_asks_after_an_hour() {
    let epoch = Instant::now();
    for (reset, asks_after, is_over) in [
        ("0.2", 1_100, true),
        ("3000", 3_000_100, true),
        ("7200", 3_600_000, false),
    ] {
        let story = |sent: u64| told(epoch, (sent, sent), 40, reset);
        let [first, second] = [0, 10_000_000].map(story);
        let met = Present::met(&first, first.end(Rounding::Up));
        let mut opened = met.at(second.now);
        assert_eq!(opened.over_at(epoch + ms(100_000_000)), None, "unknown");
        opened.tell_end(&second, second.end(Rounding::Up));
        let now = epoch + ms(20_000_000);
        let mut unspoken = opened.at(now);
        assert_eq!(unspoken.over_at(now + ms(100_000_000)), None, "unused");
        unspoken.reserve(now, 1, 1);
        let asks_at = now + ms(asks_after);
        assert_eq!(unspoken.shut_until(), asks_at);
        assert_eq!(unspoken.over_at(asks_at), is_over.then_some(asks_at));
    }
}

#[test]
fn what_may_arrive_when_the_next_one_has_begun_is_used_of_both() {
    let epoch = Instant::now();
    let at = |milliseconds| epoch + ms(milliseconds);
    let carried = |present: &Present| present.next(at(15_000), 0).account.used();
    let mut present = known(epoch);
    // It is on its way for 100 ms.
    for (now, expected) in [(13_900, 0), (13_901, 2), (14_500, 4)] {
        present.reserve(at(now), 1, 2);
        assert_eq!(carried(&present), expected);
    }
    present.give_back(1, 1);
    assert_eq!(carried(&present), 3);
    let next = present.next(at(15_000), 0);
    assert_eq!(carried(&next), 0, "not of the one after that");
    assert_eq!(present.next(at(15_000), 7).account.used(), 7);

    let mut told = told(epoch, (14_400, 14_600), 30, "1");
    told.is_refused = true;
    let mut refused = present;
    refused.tell_remaining(&told);
    assert_eq!(carried(&refused), 2, "what was refused is not used");
    // One that was sent at 14.5 s has arrived by 14.6 s.
    for (earliest, expected) in [(14_599, 3), (14_600, 0)] {
        let mut present = present;
        let (earliest, latest) = (at(earliest), at(16_000));
        present.tell_end(&told, End { earliest, latest });
        assert_eq!(carried(&present), expected);
    }
}

#[test]
fn what_was_seen_to_count_is_not_used_of_the_next_one() {
    let epoch = Instant::now();
    let at = |milliseconds| epoch + ms(milliseconds);
    // Nobody else has used anything of this one.
    let first = told(epoch, (5_000, 5_000), 99, "10");
    let mut present = Present::met(&first, first.end(Rounding::Up));
    present.reserve(at(14_500), 3, 3);
    let mut answer = told(epoch, (14_500, 14_600), 97, "1");
    answer.uncounted = 1;
    assert!(!present.tell_remaining(&answer));
    assert_eq!(present.next(at(15_000), 0).account.used(), 1);
}

#[test]
fn an_answer_that_speaks_of_another_window_tells_what_is_no_longer_under_way() {
    let epoch = Instant::now();
    let mut present = opened(epoch);
    present.reserve(epoch + ms(15_000), 5, 5);
    assert_eq!(present.account.unheard(), 5);
    let mut late = told(epoch, (14_900, 15_100), 0, "1");
    for (uncounted, unheard) in [(4, 4), (2, 2), (3, 2)] {
        late.uncounted = uncounted;
        present.hear_of_another(&late, 0);
        assert_eq!(present.account.unheard(), unheard);
    }
}

#[test]
fn an_end_that_moves_takes_its_length_with_it() {
    let epoch = Instant::now();
    for (sent, reset, length, told_at) in [
        (8_000, "7", 10_000, 5_000),
        (8_000, "3", 3_000, 8_100),
        (14_000, "13", 13_000, 14_100),
    ] {
        let mut present = known(epoch);
        let told = told(epoch, (sent, sent + 100), 40, reset);
        present.tell_end(&told, told.end(Rounding::Up));
        assert_eq!(present.length(), ms(length));
        // What says that it ends earlier, and was sent before that was known, is older.
        let older = (told_at - 1, told_at - 1, "1.5");
        assert_spoken(&present, epoch, older, Err(Spoken::Former));
        let younger = (told_at, told_at, "1.5");
        assert_spoken(&present, epoch, younger, Err(Spoken::Moved));
    }
}

#[test]
fn the_door_opens_by_degrees() {
    let epoch = Instant::now();
    let mut present = opened(epoch);
    for (ahead, tenths) in [(0, 0), (1, 1), (2, 1), (3, 2), (6, 2), (7, 3)] {
        assert_eq!(present.door(ahead), epoch + ms(15_000 + 100 * tenths));
    }
    present.reserve(epoch + ms(15_000), 2, 500);
    assert_eq!(present.door(1), epoch + ms(15_200));
    present.give_back(1, 500);
    assert_eq!(present.door(1), epoch + ms(15_100));
}

#[test]
fn an_answer_tells_of_a_limit_and_of_what_is_left_for_how_long() {
    let epoch = Instant::now();
    let told = |limit, remaining, reset, is_refused| {
        let answer = Answer {
            now: epoch + ms(500),
            sent_at: epoch,
            cost: requests(3),
            uncounted: requests(5),
            is_refused,
            on_the_way: ms(3_000),
        };
        let announced = announcement(limit, remaining, reset)?;
        Told::of(&answer, &announced, Unit::Requests)
    };
    for (limit, remaining, reset, of_50, is_whole, is_rounded_down) in [
        ("100", "40", "10", 100, true, false),
        ("100", "40", "10.5", 100, false, false),
        ("100", "40", "0", 100, true, true),
        ("100", "0", "0", 100, true, false),
        ("100", "140", "10", 140, true, false),
        // The one that was answered belongs to it at the least.
        ("", "40", "10", 50, true, false),
        ("", "60", "10", 61, true, false),
        ("0", "60", "10", 61, true, false),
        ("1", "0", "10", 1, true, false),
    ] {
        let served = told(limit, remaining, reset, false).unwrap();
        let what = format!("{limit} {remaining} {reset}");
        assert_eq!(served.limit_from(50), of_50, "{what}");
        assert_eq!(served.is_whole(), is_whole, "{what}");
        assert_eq!(served.is_rounded_down(), is_rounded_down, "{what}");
        assert_eq!((served.cost, served.used(), served.uncounted), (3, 3, 5));
        assert_eq!(served.on_the_way, ms(1_000), "no longer, in any network");
        let refused = told(limit, remaining, reset, true).unwrap();
        assert_eq!((refused.cost, refused.used()), (3, 0));
    }
    for (limit, remaining, reset) in [("", "5", "0"), ("0", "0", "0"), ("100", "", "10")] {
        assert!(told(limit, remaining, reset, false).is_none());
    }
}
