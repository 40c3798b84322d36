//! Waits that are announced in a sentence: "Please try again in 11.054s." is all that some refusals
//! say.

use std::time::Duration;

use memchr::memchr2_iter;

use super::number::{self, HOUR, MINUTE, Number, SECOND};

const PHRASES: [&[u8]; 4] = [b"try again in", b"retry in", b"retry after", b"reset after"];

/// The longest of the waits that a text announces.
///
/// A wait follows one of four phrases, in any case, as a Go duration ("try again in 6m0s",
/// [OpenAI]), with its unit in words ("retry after 33 seconds", Azure), or as seconds without a
/// unit ("retry after 5", Telegram). A number with an unknown unit, or that is part of something
/// else (a date, `1,200`), is none.
///
/// [OpenAI]: https://platform.openai.com/docs/guides/rate-limits
pub(super) fn wait(text: &str) -> Option<Duration> {
    let text = text.as_bytes();
    // All phrases have an R in the beginning, and few letters are.
    let waits = memchr2_iter(b'R', b'r', text).filter_map(|at| delay(after_phrase(text, at)?));
    waits.max().map(number::wait)
}

/// What follows the phrase whose first R is at `at`.
fn after_phrase(text: &[u8], at: usize) -> Option<&[u8]> {
    // Of `try`; of `retry` and `reset`.
    let begin = match text.get(at + 1)? {
        b'Y' | b'y' => at.checked_sub(1)?,
        b'E' | b'e' => at,
        _ => return None,
    };
    let text = text.get(begin..)?;
    PHRASES.iter().find_map(|phrase| {
        let (head, rest) = text.split_at_checked(phrase.len())?;
        (head.eq_ignore_ascii_case(phrase) && rest.first()?.is_ascii_whitespace()).then_some(rest)
    })
}

/// The delay at the beginning of `text`, in nanoseconds: "2 minutes and 30 seconds" is the sum of
/// both.
fn delay(text: &[u8]) -> Option<u128> {
    let text = text.trim_ascii_start();
    let Some((mut total, mut rest)) = term(text) else {
        return bare_seconds(text);
    };
    while let Some((nanos, after)) = term(after_separator(rest)) {
        total = total.saturating_add(nanos);
        rest = after;
    }
    Some(total)
}

/// One number or Go duration with its unit.
fn term(text: &[u8]) -> Option<(u128, &[u8])> {
    if let Some((nanos, rest)) = number::split_go_duration(text) {
        return is_boundary(rest).then_some((nanos, rest));
    }
    let (number, rest) = Number::split(text)?;
    let (word, rest) = split_word(rest.trim_ascii_start());
    let unit = [
        (&b"second"[..], SECOND),
        (b"minute", MINUTE),
        (b"hour", HOUR),
    ];
    let singular = word.strip_suffix(b"s").unwrap_or(word);
    let (_, unit) = unit
        .into_iter()
        .find(|(name, _)| singular.eq_ignore_ascii_case(name))?;
    Some((number.nanos(unit), rest))
}

/// A number with nothing behind it that could be its unit.
fn bare_seconds(text: &[u8]) -> Option<u128> {
    let (number, rest) = Number::split(text)?;
    let (next_word, _) = split_word(rest.trim_ascii_start());
    (is_boundary(rest) && next_word.is_empty()).then(|| number.nanos(SECOND))
}

/// Whether a number or duration can end here: at the end, before a space, before punctuation that
/// ends a word.
fn is_boundary(rest: &[u8]) -> bool {
    let after = rest.iter().find(|byte| !b".,;:!?)]'\"".contains(byte));
    after.is_none_or(u8::is_ascii_whitespace)
}

fn after_separator(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii_start();
    let text = text.strip_prefix(b",").unwrap_or(text).trim_ascii_start();
    text.strip_prefix(b"and ")
        .unwrap_or(text)
        .trim_ascii_start()
}

fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(
        text.iter()
            .position(|byte| !byte.is_ascii_alphabetic())
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_wait_is_found_in_a_sentence() {
        for (text, millis) in [
            (
                "Please try again in 11.054s. Visit https://platform.openai.com to learn more.",
                11_054,
            ),
            ("Please try again in 1.319999999s.", 1_320),
            ("Please try again in 7m12s.", 432_000),
            ("Please try again in 28m48s", 1_728_000),
            ("Please try again in 6m0s.", 360_000),
            ("Please try again in 500ms", 500),
            (
                "Please try again in 99999999999999999999s.",
                2_147_483_648_000,
            ),
            ("Please retry in 900.2ms.", 901),
            ("Your quota will reset after 21h53m56s.", 78_836_000),
            (
                "Please retry after 33 seconds. Please go here: https://aka.ms/oai/quotaincrease",
                33_000,
            ),
            ("Please retry after 1 second.", 1_000),
            ("Rate limited. Try again in 2 minutes.", 120_000),
            ("RETRY AFTER 1 HOUR", 3_600_000),
            ("try again in 1.5 Hours!", 5_400_000),
            ("Too Many Requests: retry after 5", 5_000),
            ("retry after 5.", 5_000),
            ("(retry after  5)", 5_000),
            ("retry in 5; then slow down", 5_000),
            ("rate limited, try again in 4ms", 4),
            ("try again in 2 minutes and 30 seconds", 150_000),
            ("try again in 1 hour, 2 minutes, and 3 seconds.", 3_723_000),
            ("try again in 1h 30m", 5_400_000),
            ("try again in 5s, or retry after 20s", 20_000),
            ("try again in 20s, or retry after 5s", 20_000),
            ("try again in try again in 5s", 5_000),
        ] {
            assert_eq!(wait(text), Some(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn nothing_is_read_into_a_sentence() {
        for text in [
            "",
            "Try again soon.",
            "Please retry after",
            "Please retry after ",
            "Please try again in a few minutes.",
            "Please try again in -5s.",
            "Please try again in +5s.",
            "Please try again in 1e3s.",
            "Please try again in 5sx.",
            "Please try again in5s.",
            "try again in 2 days",
            "try again in 3 milliseconds",
            "try again in 5min",
            "retry after 2026-06-02",
            "retry after 12:30",
            "retry after 1,200 seconds",
            "retry after 5%",
            "Please wait 5s",
            "Limit 30000, Used 22999, Requested 12528.",
        ] {
            assert_eq!(wait(text), None, "{text}");
        }
    }

    #[test]
    fn a_long_text_is_read_once() {
        // Minutes if each phrase, or each digit, led to another pass.
        for text in [
            "try again in ".repeat(5_000),
            "retry in 9".repeat(6_500),
            format!("retry in {}", "1h".repeat(32_000)),
        ] {
            let _ = wait(&text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            text in "(.{0,20}(try again in|retry after) [0-9a-z., µ]{0,12}){0,4}.{0,20}",
        ) {
            prop_assert!(wait(&text).is_none_or(|wait| wait <= number::MAX_WAIT));
        }
    }
}
