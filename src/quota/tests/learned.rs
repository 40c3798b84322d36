//! What the models together make of answers and refusals.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const REQUEST: Cost = Cost {
    requests: 1,
    tokens: 0,
};

/// Sends one, whether it may go or not.
fn send(model: &mut Model, now: Instant) -> Sent {
    let reserved = model.reserve(now, REQUEST, true);
    model.sent(reserved, now)
}

/// It is refused at once.
fn refuse(model: &mut Model, now: Instant, sent: Sent, wait: Option<Duration>) {
    let until = now + wait.unwrap_or_default();
    model.reading(now, sent, until);
    model.understood(until);
    model.refused(now, sent, Refused { until, wait });
}

fn said(fields: &[(&'static str, &str)]) -> Vec<RateLimit> {
    let mut headers = HeaderMap::new();
    for &(name, value) in fields {
        headers.insert(name, HeaderValue::from_str(value).unwrap());
    }
    let signal = crate::signal::read(StatusCode::OK, &headers, None, SystemTime::UNIX_EPOCH);
    signal.limits().to_vec()
}

/// Sends all that may go now, and serves them; how many these are.
fn round(model: &mut Model, now: Instant) -> usize {
    let mut sent = Vec::new();
    model.pass(now, 0);
    while model.admit(now, REQUEST) == Admit::Now && sent.len() < 1_000 {
        sent.push(send(model, now));
    }
    for &sent in &sent {
        model.served(now, sent);
    }
    sent.len()
}

/// One was refused beside another one, so that only a few are tried; and these are in flight.
fn filled(now: Instant) -> (Model, Vec<Sent>) {
    let mut model = Model::default();
    let mut in_flight = vec![send(&mut model, now)];
    let refused = send(&mut model, now);
    refuse(&mut model, now, refused, None);
    for _ in 0..20 {
        let served = send(&mut model, now);
        model.served(now, served);
    }
    in_flight.extend(fill(&mut model, now));
    (model, in_flight)
}

/// Sends as many as may be in flight.
fn fill(model: &mut Model, now: Instant) -> Vec<Sent> {
    let mut sent = Vec::new();
    while model.concurrency.is_open() {
        sent.push(send(model, now));
    }
    sent
}

#[test]
fn an_answer_that_explains_nothing_frees_its_place() {
    let now = Instant::now();
    let (mut model, in_flight) = filled(now);
    let held = model.admit(now, REQUEST).hold();
    assert_eq!(held, Some(Hold::Concurrency));
    model.unexplained(in_flight[0]);
    assert_eq!(model.admit(now, REQUEST), Admit::Now);
    let mut model = Model::default();
    let mut sent = Vec::new();
    while model.admit(now, REQUEST) == Admit::Now {
        sent.push(send(&mut model, now));
    }
    model.unexplained(sent[0]);
    assert_eq!(round(&mut model, now), 1, "it proves nothing");
}

#[test]
fn who_no_longer_counts_makes_room_at_that_instant() {
    let began = Instant::now();
    let (mut model, _) = filled(began);
    let usual = model.tempo.refusal_time();
    let overdue_at = began + 10 * SECOND;
    for (now, at) in [
        (began + 2 * SECOND, began + 2 * SECOND + usual),
        (overdue_at - usual / 2, overdue_at),
    ] {
        model.pass(now, 0);
        // The cap has grown, for nothing was refused.
        fill(&mut model, now);
        let expected = Admit::At(at, Hold::Concurrency);
        assert_eq!(model.admit(now, REQUEST), expected);
    }
    model.pass(overdue_at, 0);
    assert_eq!(model.admit(overdue_at, REQUEST), Admit::Now);
}

#[test]
fn where_so_many_may_be_in_flight_half_of_what_one_takes_is_time_to_ask_again() {
    let (mut model, began) = (Model::default(), Instant::now());
    let [served, refused] = [(); 2].map(|()| send(&mut model, began));
    refuse(&mut model, began, refused, None);
    model.served(began + SECOND / 2, served);
    let usual = model.tempo.usual_answer().unwrap();
    assert_eq!(model.learned_interval(), Some(usual / 2));
    assert_eq!(Model::default().learned_interval(), None);
}

#[test]
fn tokens_are_counted_once_something_counts_them() {
    let of_requests = said(&[
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
    ]);
    let of_tokens = said(&[
        ("x-ratelimit-limit-tokens", "60"),
        ("x-ratelimit-remaining-tokens", "59"),
        ("x-ratelimit-reset-tokens", "1s"),
    ]);
    let (mut model, now) = (Model::default(), Instant::now());
    assert!(!model.counts_tokens());
    for (announced, counts_tokens) in [(of_requests, false), (of_tokens, true)] {
        let sent = send(&mut model, now);
        model.announced(now, sent, false, &announced);
        assert_eq!(model.counts_tokens(), counts_tokens);
    }
    assert!(!model.declares_tokens());
}

#[test]
fn a_server_that_names_a_hundred_dimensions_is_believed_in_eight() {
    let (mut model, now) = (Model::default(), Instant::now());
    for dimension in 0..100 {
        let sent = send(&mut model, now);
        let announced = said(&[("ratelimit", &format!("\"{dimension}\";r=5;t=60"))]);
        assert_eq!(announced.len(), 1);
        model.announced(now, sent, false, &announced);
        assert_eq!(model.dimensions.len(), MAX_DIMENSIONS.min(dimension + 1));
    }
}

#[test]
fn only_what_is_served_without_a_word_of_a_window_shows_that_nothing_speaks_of_it() {
    let (mut model, began) = (Model::default(), Instant::now());
    let sent = send(&mut model, began);
    let announced = said(&[("ratelimit", "\"default\";r=0;t=2")]);
    model.announced(began, sent, true, &announced);
    refuse(&mut model, began, sent, Some(2 * SECOND));
    let now = began + 10 * SECOND;
    model.pass(now, 0);
    for (is_refused, is_served, known) in [(true, false, 1), (false, false, 1), (false, true, 0)] {
        let sent = send(&mut model, now);
        if is_served {
            model.served(now, sent);
        }
        model.announced(now, sent, is_refused, &[]);
        assert_eq!(model.dimensions.len(), known, "{is_refused} {is_served}");
    }
}

#[test]
fn a_limit_of_which_something_is_left_explains_no_refusal() {
    for (remaining, name) in [("50", "rate"), ("0", "default")] {
        let (mut model, now) = (Model::default(), Instant::now());
        let sent = send(&mut model, now);
        let announced = said(&[("ratelimit", &format!("\"default\";r={remaining};t=60"))]);
        model.announced(now, sent, true, &announced);
        refuse(&mut model, now, sent, Some(SECOND));
        assert_eq!(model.blamed().unwrap().name(), name);
    }
}

#[test]
fn what_is_used_up_or_was_refused_of_late_is_worth_to_be_kept() {
    let (mut model, now) = (Model::default(), Instant::now());
    assert_eq!(model.worth(now), Worth::Nothing);
    let sent = send(&mut model, now);
    let announced = said(&[
        ("x-ratelimit-limit-requests", "60"),
        ("x-ratelimit-remaining-requests", "59"),
        ("x-ratelimit-reset-requests", "1s"),
    ]);
    model.announced(now, sent, false, &announced);
    assert_eq!(model.worth(now), Worth::Knowledge);
    let now = now + SECOND;
    assert_eq!(model.worth(now), Worth::Nothing, "all of it is back");
    refuse(&mut model, now, sent, Some(SECOND));
    for (seconds, worth) in [
        (0, Worth::Pause),
        (1, Worth::Knowledge),
        (60, Worth::Knowledge),
        (61, Worth::Nothing),
    ] {
        assert_eq!(model.worth(now + seconds * SECOND), worth, "{seconds}");
    }
    let quota = Quota::requests(std::num::NonZeroU64::MIN);
    let mut model = Model::new(&[quota]);
    assert_eq!(model.worth(now), Worth::Nothing);
    send(&mut model, now);
    assert_eq!(model.worth(now), Worth::Knowledge);
}

#[test]
fn a_refusal_that_may_be_due_to_the_number_in_flight_tells_no_number_that_is_left() {
    let (mut model, now) = (Model::default(), Instant::now());
    let sent: Vec<_> = (0..10).map(|_| send(&mut model, now)).collect();
    refuse(&mut model, now, sent[9], Some(SECOND));
    sent[..9].iter().for_each(|&sent| model.served(now, sent));
    let now = now + SECOND;
    assert_eq!([(); 4].map(|()| round(&mut model, now)), [1, 2, 4, 8]);
}

#[test]
fn who_sends_when_the_quota_is_open_and_nobody_waits_learns_no_lower_rate() {
    let learned = |waits| {
        let (mut model, mut now) = (Model::default(), Instant::now());
        // So many at such intervals, and then one that is refused.
        let mut cycle = |bursts: &[(u32, Duration)], waits| {
            for &(requests, every) in bursts {
                for _ in 0..requests {
                    model.pass(now, 0);
                    let reserved = model.reserve(now, REQUEST, waits);
                    let sent = model.sent(reserved, now);
                    model.served(now, sent);
                    now += every;
                }
            }
            model.pass(now, 0);
            let sent = send(&mut model, now);
            refuse(&mut model, now, sent, Some(SECOND));
            now += SECOND;
            model.learned_interval()
        };
        let interval = SECOND / 10;
        cycle(&[(20, Duration::ZERO)], true);
        cycle(&[(10, Duration::ZERO), (100, interval)], true);
        let busy = cycle(&[(10, Duration::ZERO), (100, interval)], true);
        cycle(&[(30, SECOND), (15, Duration::ZERO)], waits);
        let idle = cycle(&[(10, Duration::ZERO)], true);
        (busy, idle)
    };
    let (busy, idle) = learned(false);
    assert_eq!(busy, Some(SECOND / 10));
    assert_eq!(idle, busy);
    let (busy, slow) = learned(true);
    assert!(slow > busy.map(|busy| 2 * busy), "{slow:?}");
}

/// Three requests in 100 s, one after another, each of which takes a second; and now one goes early
/// where it is alone.
fn probing_alone() -> (Model, Instant) {
    let (mut model, mut now) = (Model::default(), Instant::now());
    for wait in [100 * SECOND; 3] {
        for _ in 0..3 {
            model.pass(now, 10);
            let served = send(&mut model, now);
            now += SECOND;
            model.served(now, served);
        }
        model.pass(now, 10);
        let refused = send(&mut model, now);
        refuse(&mut model, now, refused, Some(wait));
        now += wait;
    }
    // From now on all are admitted.
    for _ in 0..100 {
        model.pass(now, 10);
        now = model.admit(now, REQUEST).opens_at(now);
        model.pass(now, 10);
        let served = send(&mut model, now);
        now += SECOND;
        model.served(now, served);
        if model.rate.is_probing() {
            break;
        }
    }
    assert!(model.rate.is_probing());
    model.pass(now, 10);
    (model, now)
}

#[test]
fn what_waits_until_it_is_alone_looks_again_whether_it_is() {
    let (mut model, now) = probing_alone();
    let dropped = send(&mut model, now);
    let waits = |model: &Model| match model.admit(now, REQUEST) {
        Admit::At(at, Hold::Rate) => at - now,
        other => panic!("{other:?}"),
    };
    assert!(waits(&model) < 3 * SECOND, "{:?}", waits(&model));
    model.abandoned(dropped);
    let wait = waits(&model);
    assert!(wait < 3 * SECOND, "{wait:?}");
    model.pass(now + wait, 10);
    assert_eq!(model.admit(now + wait, REQUEST), Admit::Now);
}

#[test]
fn what_has_been_in_flight_for_far_longer_than_usual_is_not_waited_for() {
    let opens_at = |model: &mut Model, now| {
        model.pass(now, 10);
        model.admit(now, REQUEST).opens_at(now)
    };
    let (mut model, now) = probing_alone();
    // Others took so long that it goes on to count.
    model.heads.took(100 * SECOND);
    send(&mut model, now);
    let usual = model.concurrency.usual_work(&model.tempo).unwrap();
    let long_after = now + 10 * usual;
    let before = long_after - Duration::from_nanos(1);
    assert!(opens_at(&mut model, before) > before);
    assert_eq!(opens_at(&mut model, long_after), long_after);

    let (mut model, now) = probing_alone();
    let streamed = send(&mut model, now);
    let now = now + SECOND;
    model.streams(now, streamed);
    let before = now + 9 * SECOND;
    assert!(
        opens_at(&mut model, before) > before,
        "it is being answered"
    );
}

#[test]
fn the_longer_a_refusal_pauses_the_more_have_to_fill_the_cap_before_the_next_try() {
    for (wait, fills) in [(SECOND, 40), (10 * SECOND, 400)] {
        let (mut model, mut now) = (Model::default(), Instant::now());
        // Two at a time, each for half a second.
        let mut under_way: VecDeque<_> = [(); 2].map(|()| send(&mut model, now)).into();
        let sent = send(&mut model, now);
        refuse(&mut model, now, sent, None);
        let mut turn = |model: &mut Model| {
            now += SECOND / 4;
            model.pass(now, 0);
            model.served(now, under_way.pop_front().unwrap());
            under_way.push_back(send(model, now));
            now
        };
        let filled = (0..100).map(|_| turn(&mut model)).last().unwrap();
        let sent = send(&mut model, filled);
        refuse(&mut model, filled, sent, Some(wait));
        let turns = (0..1_000).take_while(|_| {
            turn(&mut model);
            !model.concurrency.is_open()
        });
        let turns = turns.count();
        assert!((fills - 3..fills).contains(&turns), "{turns} for {wait:?}");
    }
}

#[test]
fn what_is_refused_for_another_cause_was_not_admitted_by_the_rate() {
    let (mut model, now) = (Model::default(), Instant::now());
    let [served, refused, last] = [(); 3].map(|()| send(&mut model, now));
    let used_up = said(&[
        ("x-ratelimit-limit-requests", "1"),
        ("x-ratelimit-remaining-requests", "0"),
        ("x-ratelimit-reset-requests", "60s"),
    ]);
    model.announced(now, served, false, &used_up);
    refuse(&mut model, now, refused, Some(SECOND));
    assert!(matches!(model.blamed(), Some(RefusalCause::Dimension(_))));
    let admitted = model.rate.refused(last.reserved.turn, now, None);
    assert_eq!(admitted, Some(1), "what was announced explains a refusal");

    let (mut model, in_flight) = filled(now);
    let admitted = 20 + in_flight.len() as u64;
    let refused = send(&mut model, now);
    refuse(&mut model, now, refused, None);
    assert_eq!(model.blamed(), Some(&RefusalCause::Concurrency));
    let last = send(&mut model, now);
    let told = model.rate.refused(last.reserved.turn, now, None);
    assert_eq!(told, Some(admitted - 1), "so many at a time explain it");
}
