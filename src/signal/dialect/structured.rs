//! `RateLimit` and `RateLimit-Policy`, the [structured fields] of the [IETF draft]: Lists of named
//! items.
//!
//! One draft had `RateLimit` as a Dictionary, `limit=100, remaining=50, reset=5`, and two had
//! policies that are bare integers, which name nothing and are left out. Nearly every Dictionary is
//! no List, so the List is tried first.
//!
//! [structured fields]: https://www.rfc-editor.org/rfc/rfc9651.html
//! [IETF draft]: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers

use std::{borrow::Cow, convert::Infallible, mem};

use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{
        DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ListVisitor,
        ParameterVisitor,
    },
};

use super::{Dialect, Field};
use crate::signal::{
    limits::{DEFAULT_DIMENSION, Limits, Precedence, Reset},
    number::{self, SECOND},
};

/// Of all lines together; more than a server with many policies needs.
const MAX_LENGTH: usize = 8 * 1024;

pub(super) const DIALECT: Dialect = Dialect {
    hear: Some(hear),
    ..Dialect::SILENT
};

/// Which of the fields have been read: all lines of one are read at its first, together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    limits: bool,
    policies: bool,
}

fn hear(field: &Field<'_>, heard: &mut super::Heard<'_>) -> bool {
    let (was_heard, read): (_, fn(&[u8], &mut Limits<'_>)) = match field.name {
        "ratelimit" => (&mut heard.structured.limits, hear_limits),
        "ratelimit-policy" => (&mut heard.structured.policies, hear_policies),
        _ => return false,
    };
    if !mem::replace(was_heard, true) {
        if let Some(text) = joined(field) {
            read(&text, &mut heard.limits);
        }
    }
    true
}

/// What the lines of a field are together: a comma is where a line may be broken ([RFC 9651,
/// section 4.2]).
///
/// [RFC 9651, section 4.2]: https://www.rfc-editor.org/rfc/rfc9651.html#section-4.2
fn joined<'a>(field: &Field<'a>) -> Option<Cow<'a, [u8]>> {
    let lines = field.headers.get_all(field.name).iter();
    let mut lines = lines
        .map(|line| number::trim(line.as_bytes()))
        .filter(|line| !line.is_empty());
    let mut text = Cow::Borrowed(lines.next()?);
    for line in lines {
        let text = text.to_mut();
        text.extend_from_slice(b", ");
        text.extend_from_slice(line);
    }
    (text.len() <= MAX_LENGTH).then_some(text)
}

fn hear_limits(text: &[u8], limits: &mut Limits<'_>) {
    if let Ok(items) = Parser::new(text).parse_list_with_visitor(Items::default()) {
        for item in &items {
            hear_item(item, limits);
        }
    } else if let Ok(dictionary) =
        Parser::new(text).parse_dictionary_with_visitor(Dictionary::default())
    {
        let Dictionary {
            limit,
            remaining,
            reset,
        } = dictionary;
        hear_facts(DEFAULT_DIMENSION, [limit, remaining, reset], limits);
    }
}

/// `"default";r=50;t=30`
fn hear_item(item: &Item<'_>, limits: &mut Limits<'_>) {
    if let Some(name) = item.name() {
        hear_facts(name, [Count::Absent, item.remaining, item.reset], limits);
    }
}

/// `"default";q=100;w=60`
fn hear_policies(text: &[u8], limits: &mut Limits<'_>) {
    let items = Parser::new(text).parse_list_with_visitor(Items::default());
    for item in &items.unwrap_or_default() {
        if let Some(name) = item.name() {
            hear_facts(name, [item.quota, Count::Absent, Count::Absent], limits);
        }
    }
}

/// Hears a limit, what remains, and the seconds until it is renewed. One that is no count spoils
/// them all.
fn hear_facts(dimension: &str, facts: [Count; 3], limits: &mut Limits<'_>) {
    if facts.contains(&Count::Malformed) {
        return;
    }
    let by = Precedence::Structured;
    let [limit, remaining, reset] = facts;
    if let Count::Known(limit) = limit {
        limits.hear_limit(dimension, by, Some(limit));
    }
    if let Count::Known(remaining) = remaining {
        limits.hear_remaining(dimension, by, Some(remaining));
    }
    if let Count::Known(seconds) = reset {
        let delay = number::wait(u128::from(seconds) * u128::from(SECOND));
        limits.hear_reset(dimension, by, Some(Reset::at_once(delay)));
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Count {
    #[default]
    Absent,
    Known(u64),
    /// Negative, or no Integer.
    Malformed,
}

impl Count {
    fn of(value: &BareItemFromInput<'_>) -> Self {
        let BareItemFromInput::Integer(integer) = value else {
            return Self::Malformed;
        };
        u64::try_from(i64::from(*integer)).map_or(Self::Malformed, Self::Known)
    }
}

/// One member of a List. Of a parameter that comes twice, the last counts.
struct Item<'de> {
    value: BareItemFromInput<'de>,
    quota: Count,
    remaining: Count,
    reset: Count,
}

impl<'de> Item<'de> {
    fn new(value: BareItemFromInput<'de>) -> Self {
        Self {
            value,
            quota: Count::Absent,
            remaining: Count::Absent,
            reset: Count::Absent,
        }
    }

    /// Drafts had Tokens for names.
    fn name(&self) -> Option<&str> {
        match &self.value {
            BareItemFromInput::String(name) => Some(name.as_str()),
            BareItemFromInput::Token(name) => Some(name.as_str()),
            _ => None,
        }
    }
}

/// Collects the items of a List. They are of use only once the whole field has proved to be one.
#[derive(Default)]
struct Items<'de>(Vec<Item<'de>>);

impl<'de> ListVisitor<'de> for Items<'de> {
    type Out = Vec<Item<'de>>;
    type Error = Infallible;

    fn entry(&mut self) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(Member(&mut self.0))
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        Ok(self.0)
    }
}

struct Member<'a, 'de>(&'a mut Vec<Item<'de>>);

impl<'de> EntryVisitor<'de> for Member<'_, 'de> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Member<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        value: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        let item = Item::new(value);
        Ok(Parameters {
            items: self.0,
            item,
        })
    }
}

struct Parameters<'a, 'de> {
    items: &'a mut Vec<Item<'de>>,
    item: Item<'de>,
}

impl<'de> ParameterVisitor<'de> for Parameters<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn parameter(
        &mut self,
        key: &'de KeyRef,
        value: BareItemFromInput<'de>,
    ) -> Result<(), Infallible> {
        match key.as_str() {
            "q" => self.item.quota = Count::of(&value),
            "r" => self.item.remaining = Count::of(&value),
            "t" => self.item.reset = Count::of(&value),
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Infallible> {
        self.items.push(self.item);
        Ok(())
    }
}

/// What `RateLimit` was once. Of a key that comes twice, the last counts.
#[derive(Default)]
struct Dictionary {
    limit: Count,
    remaining: Count,
    reset: Count,
}

impl<'de> DictionaryVisitor<'de> for Dictionary {
    type Out = Self;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        Ok(match key.as_str() {
            "limit" => Some(Entry(&mut self.limit)),
            "remaining" => Some(Entry(&mut self.remaining)),
            "reset" => Some(Entry(&mut self.reset)),
            _ => None,
        })
    }

    fn finish(self) -> Result<Self, Infallible> {
        Ok(self)
    }
}

struct Entry<'a>(&'a mut Count);

impl<'de> EntryVisitor<'de> for Entry<'_> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        *self.0 = Count::Malformed;
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Entry<'_> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        value: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        *self.0 = Count::of(&value);
        Ok(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use http::{HeaderMap, HeaderValue};
    use proptest::prelude::*;

    use crate::signal::{RateLimit, dialect::Heard, few::Few, instant::Clock};

    type Facts = (String, Option<u64>, Option<u64>, Option<u64>);

    fn facts(lines: &[(&'static str, &str)]) -> Vec<Facts> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::try_from(*value).expect("a value"));
        }
        let mut limits = Few::default();
        let clock = Clock::new(&headers, SystemTime::UNIX_EPOCH);
        let heard = Heard::listen(&headers, &clock, &mut limits);
        heard.limits.finish();
        let seconds = |limit: &RateLimit| limit.reset().map(|reset| reset.as_secs());
        let limits = limits.as_slice().iter();
        limits
            .map(|limit| {
                let name = limit.dimension().to_owned();
                (name, limit.limit(), limit.remaining(), seconds(limit))
            })
            .collect()
    }

    fn fact(name: &str, limit: Option<u64>, left: Option<u64>, reset: Option<u64>) -> Facts {
        (name.to_owned(), limit, left, reset)
    }

    #[test]
    fn a_limit_and_its_policy_are_one_dimension() {
        let policy = ("ratelimit-policy", r#""hour";q=1000;w=3600, "day";q=5000"#);
        let limit = ("ratelimit", r#""day";r=100;t=36000"#);
        let day = fact("day", Some(5_000), Some(100), Some(36_000));
        let hour = fact("hour", Some(1_000), None, None);
        assert_eq!(facts(&[policy, limit]), [day.clone(), hour]);
        assert_eq!(
            facts(&[limit]),
            [fact("day", None, Some(100), Some(36_000))]
        );
        let broken = ("ratelimit-policy", r#""day";"day";q=5000"#);
        assert_eq!(
            facts(&[broken, limit]),
            [fact("day", None, Some(100), Some(36_000))],
            "ignored alone"
        );
    }

    #[test]
    fn every_draft_is_read() {
        for (limit, expected) in [
            (r#""a";r=1;t=2"#, Some(("a", None, Some(1), Some(2)))),
            (r#""a"; t=2; r=1"#, Some(("a", None, Some(1), Some(2)))),
            ("a;r=1", Some(("a", None, Some(1), None))),
            (r#""a";t=2;pk=:YQ==:"#, Some(("a", None, None, Some(2)))),
            (r#""a \"b\"";r=1"#, Some((r#"a "b""#, None, Some(1), None))),
            (r#""a";r=9;r=1"#, Some(("a", None, Some(1), None))),
            (
                r#""a";r=1, "a";r=0;t=7"#,
                Some(("a", None, Some(0), Some(7))),
            ),
            (
                "limit=100, remaining=50, reset=5",
                Some(("default", Some(100), Some(50), Some(5))),
            ),
            (
                "limit=10, reset=1;w=4, burst=(1 2)",
                Some(("default", Some(10), None, Some(1))),
            ),
            ("limit=10, remaining=-1, reset=1", None),
            ("limit=10, remaining=(1), reset=1", None),
            ("limit=10, remaining=?1, reset=1", None),
            (r#""a""#, None),
            (r#""a";r"#, None),
            (r#""a";r=1.0"#, None),
            (r#""a";r=1;t=-2"#, None),
            (r#""a";r=1;t="2""#, None),
            (r#"("a");r=1"#, None),
            ("7;r=1", None),
            ("?1;r=1", None),
            (r#""a";r=1,"#, None),
            (r#""a";R=1"#, None),
            (r#""a";r=1000000000000000"#, None),
            ("", None),
        ] {
            let expected = expected.map(|(name, limit, left, t)| fact(name, limit, left, t));
            let read = facts(&[("ratelimit", limit)]);
            assert_eq!(read, Vec::from_iter(expected), "{limit}");
        }
    }

    #[test]
    fn a_policy_without_a_name_or_a_quota_says_nothing() {
        for policy in [
            "100;w=60",
            "10, 10;w=1",
            r#""a";w=60"#,
            "a;l=100",
            r#""a";q=-1"#,
        ] {
            assert_eq!(facts(&[("ratelimit-policy", policy)]), [], "{policy}");
        }
    }

    #[test]
    fn the_newest_spelling_counts_but_for_the_delay() {
        let all = [
            ("ratelimit", "default;r=1;t=2"),
            ("ratelimit-remaining", "3"),
            ("ratelimit-reset", "4"),
            ("x-ratelimit-limit", "5"),
        ];
        let expected = fact("default", Some(5), Some(1), Some(2));
        assert_eq!(facts(&all), [expected]);
        let mut with_delay = all;
        with_delay[3] = ("x-ratelimit-reset-after", "6");
        assert_eq!(facts(&with_delay)[0].3, Some(6));
    }

    #[test]
    fn more_than_a_server_sends_is_not_read() {
        let many = |count| r#""a";r=1"#.to_owned() + &r#", "a";r=1"#.repeat(count);
        assert_eq!(facts(&[("ratelimit", &many(800))]).len(), 1);
        assert_eq!(facts(&[("ratelimit", &many(1_000))]), []);
        let line = many(500);
        assert_eq!(facts(&[("ratelimit", &line), ("ratelimit", &line)]), []);
    }

    proptest! {
        #[test]
        fn where_a_line_is_broken_does_not_matter(
            counts in prop::collection::vec((0_u8..6, 0_u64..99, 0_u64..99, 0_u8..3), 1..8),
        ) {
            let (mut broken, mut whole) = (vec![String::new()], String::new());
            for (name, left, reset, breaks) in counts {
                let item = format!(r#""it, {name}";r={left};t={reset}"#);
                for text in [&mut whole, broken.last_mut().expect("a line")] {
                    let comma = if text.is_empty() { "" } else { " ,\t" };
                    *text += comma;
                    *text += &item;
                }
                broken.extend((0..breaks).map(|_| String::new()));
            }
            let lines: Vec<_> = broken.iter().map(|line| ("ratelimit", line.as_str())).collect();
            prop_assert_eq!(facts(&lines), facts(&[("ratelimit", whole.as_str())]));
        }

        #[test]
        fn any_field_is_read_or_ignored(
            limit in r#"("?[ab]"?(;(r|t|q|=)=?("7"|-?[0-9]{0,3}|:YQ=*:|\(1\))){0,3}[, =]{0,2}){0,4}"#,
            policy in "[ -~]{0,40}",
        ) {
            let all = facts(&[("ratelimit", &limit), ("ratelimit-policy", &policy)]);
            prop_assert!(all.len() <= 32);
        }
    }
}
