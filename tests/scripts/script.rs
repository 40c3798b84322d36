//! What is played: who calls when and what becomes of the call, and what the server says to it.

use proptest::{collection::vec, option, prelude::*};
use std::{fmt, time::Duration};

/// A time from the beginning, or a length of time, in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ms(pub(crate) u64);

impl From<Ms> for Duration {
    fn from(time: Ms) -> Self {
        Duration::from_millis(time.0)
    }
}

impl fmt::Debug for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) calls: Vec<Call>,
    /// To the requests in the order in which they are sent; all others are served after 10 ms.
    pub(crate) replies: Vec<Reply>,
    /// When the clock steps, and by how much: nothing runs meanwhile.
    pub(crate) steps: Vec<(Ms, Ms)>,
    /// So many requests have room in the service at a time.
    pub(crate) room: Option<usize>,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) at: Ms,
    pub(crate) head_start: Ms,
    pub(crate) deadline: Option<Ms>,
    pub(crate) tokens: u64,
    pub(crate) body: Sends,
    pub(crate) fate: Fate,
}

/// The body of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sends {
    Nothing,
    Bytes,
    /// In two frames, of unknown length.
    Stream,
}

/// What becomes of a call's future.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is polled whenever it asks to be, and the answer is read.
    Polled,
    /// After so many polls it is dropped.
    Dropped { polls: u32 },
    /// It is dropped then.
    Cancelled { at: Ms },
    /// After so many polls it is not polled for so long.
    Held { polls: u32, time: Ms },
    /// After so many polls it is not polled any more, and kept until all others have ended.
    Forgotten { polls: u32 },
    /// The answer is dropped with its body unread.
    Unread,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    pub(crate) after: Ms,
    pub(crate) says: Says,
    /// How much later than the head the body comes.
    pub(crate) body_after: Ms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Says {
    Ok,
    /// 429, and when to come back.
    Refused(Option<Ms>),
    /// 503 in the same way.
    Unavailable(Ms),
    /// 500.
    Fails,
    /// No answer, but an error.
    Breaks,
}

impl Says {
    /// For how long nothing may be sent, as it says.
    pub(crate) fn pause(self) -> Option<Duration> {
        match self {
            Self::Refused(wait) => wait.map(Duration::from),
            Self::Unavailable(wait) => Some(wait.into()),
            Self::Ok | Self::Fails | Self::Breaks => None,
        }
    }
}

impl Script {
    /// Whose times are only those that the layer chooses.
    pub(crate) fn is_smooth(&self) -> bool {
        self.steps.is_empty() && self.room.is_none()
    }
}

/// Any script.
pub(crate) fn scripts() -> impl Strategy<Value = Script> {
    scripts_of(says())
}

/// Those in which the server refuses nothing by itself, and serves one call before all others.
pub(crate) fn willing_scripts() -> impl Strategy<Value = Script> {
    let says = prop_oneof![8 => Just(Says::Ok), 1 => Just(Says::Fails), 1 => Just(Says::Breaks)];
    scripts_of(says).prop_map(|mut script| {
        script.calls.iter_mut().for_each(|call| call.at.0 += 100);
        script.calls.insert(0, FIRST);
        script.replies.insert(0, SERVED);
        script
    })
}

/// Those of them in which some call a minute later.
pub(crate) fn idle_scripts() -> impl Strategy<Value = Script> {
    let idle = vec(any::<bool>(), 12);
    (willing_scripts(), idle).prop_map(|(mut script, idle)| {
        let later = script.calls.iter_mut().skip(1).zip(idle);
        for (call, _) in later.filter(|(_, is_idle)| *is_idle) {
            call.at.0 += 60_000;
        }
        script
    })
}

const FIRST: Call = Call {
    at: Ms(0),
    head_start: Ms(0),
    deadline: None,
    tokens: 1,
    body: Sends::Nothing,
    fate: Fate::Polled,
};

/// What is said where the script says nothing.
pub(crate) const SERVED: Reply = Reply {
    after: Ms(10),
    says: Says::Ok,
    body_after: Ms(0),
};

fn scripts_of(says: impl Strategy<Value = Says>) -> impl Strategy<Value = Script> {
    let replies = (
        tens(100),
        says,
        prop_oneof![3 => Just(Ms(0)), 1 => tens(60)],
    );
    let replies = replies.prop_map(|(after, says, body_after)| Reply {
        after,
        says,
        body_after,
    });
    let steps = prop_oneof![3 => Just(Vec::new()), 1 => vec((tens(400), tens(300)), 1..3)];
    let room = prop_oneof![3 => Just(None), 1 => (1..4_usize).prop_map(Some)];
    (vec(call(), 1..12), vec(replies, 0..12), steps, room).prop_map(
        |(mut calls, replies, steps, room)| {
            // Who keeps the room of a request for ever, without being polled, holds up the others.
            for call in calls.iter_mut().filter(|_| room.is_some()) {
                if let Fate::Forgotten { polls } = call.fate {
                    call.fate = Fate::Dropped { polls };
                }
            }
            Script {
                calls,
                replies,
                steps,
                room,
            }
        },
    )
}

fn call() -> impl Strategy<Value = Call> {
    let body = prop_oneof![
        Just(Sends::Nothing),
        Just(Sends::Bytes),
        Just(Sends::Stream)
    ];
    let head_start = prop_oneof![3 => Just(Ms(0)), 1 => tens(300)];
    let deadline = prop_oneof![3 => Just(None), 1 => option::of(tens(500))];
    (tens(300), head_start, deadline, 1..30_u64, body, fate()).prop_map(
        |(at, head_start, deadline, tokens, body, fate)| Call {
            at,
            head_start,
            deadline,
            tokens,
            body,
            fate,
        },
    )
}

fn fate() -> impl Strategy<Value = Fate> {
    let polls = || 0..6_u32;
    prop_oneof![
        6 => Just(Fate::Polled),
        1 => polls().prop_map(|polls| Fate::Dropped { polls }),
        1 => tens(400).prop_map(|at| Fate::Cancelled { at }),
        1 => (polls(), tens(400)).prop_map(|(polls, time)| Fate::Held { polls, time }),
        1 => polls().prop_map(|polls| Fate::Forgotten { polls }),
        1 => Just(Fate::Unread),
    ]
}

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        4 => Just(Says::Ok),
        3 => tens(200).prop_map(|wait| Says::Refused(Some(wait))),
        1 => Just(Says::Refused(None)),
        1 => tens(200).prop_map(Says::Unavailable),
        1 => Just(Says::Fails),
        1 => Just(Says::Breaks),
    ]
}

/// Up to so many times ten milliseconds.
fn tens(up_to: u64) -> impl Strategy<Value = Ms> {
    (0..up_to).prop_map(|tens| Ms(tens * 10))
}

/// A call of one token, without a body, that is polled.
pub(crate) fn call_at(at: u64, fate: Fate) -> Call {
    Call {
        at: Ms(at),
        fate,
        ..FIRST
    }
}

pub(crate) fn reply(after: u64, says: Says) -> Reply {
    Reply {
        after: Ms(after),
        says,
        body_after: Ms(0),
    }
}
