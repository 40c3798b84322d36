use super::*;

use std::future::pending;

use tokio::time::sleep;

async fn watched(requests: usize, view: View, stop: impl Future<Output = ()>) -> String {
    let mut out = Vec::new();
    let traffic = Traffic::start(requests);
    watch(traffic, view, &mut out, stop).await.unwrap();
    String::from_utf8(out).unwrap()
}

fn parsed(args: &[&str]) -> Result<Option<(usize, View)>, String> {
    parse(lexopt::Parser::from_args(args))
}

#[tokio::test(start_paused = true)]
async fn a_log_has_a_plain_line_each_second_and_a_summary() {
    let text = watched(1_000, View::Plain, pending()).await;
    let (log, summary) = text.split_once("\n\n").unwrap();
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert!(
        text.chars().all(|c| c == '\n' || !c.is_control()),
        "{text:?}"
    );
    for (second, line) in log.lines().enumerate().take(30) {
        assert!(
            line.starts_with(&format!("{second:>3}.0 s  sent ")),
            "{line}"
        );
    }
    assert!(log.contains("paused "), "{log}");
    assert!(
        summary.starts_with("1,100 of 1,100 calls served in "),
        "{summary}"
    );
    assert!(summary.contains(", 0 given back\n"), "{summary}");
}

#[tokio::test(start_paused = true)]
async fn a_live_view_is_drawn_over_itself() {
    let text = watched(1_000, View::Live, pending()).await;
    let frames: Vec<&str> = text.split("\x1b[J").collect();
    assert!(frames.len() > 100, "{}", frames.len());
    let mut pauses = 0;
    for frame in &frames[..frames.len() - 1] {
        let (frame, up) = frame.rsplit_once("\x1b[").unwrap();
        assert_eq!(up, format!("{}F", frame.lines().count()));
        assert!(!frame.contains('\x1b'), "{frame:?}");
        assert!(frame.lines().all(|line| line.len() <= 80), "{frame}");
        pauses += usize::from(frame.contains("  paused for "));
    }
    assert!(pauses > 0);
    assert!(text.contains("held by requests"));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_it_with_what_was_counted_until_then() {
    let text = watched(1_000, View::Plain, sleep(Duration::from_millis(2_500))).await;
    let (log, summary) = text.split_once("\n\n").unwrap();
    assert_eq!(log.lines().count(), 4, "{log}");
    assert!(
        summary.contains(" of 1,100 calls served in 2.5 s, "),
        "{summary}"
    );
}

#[test]
fn the_command_line_is_understood_or_refused_in_one_line() {
    assert_eq!(
        parsed(&["--plain", "--requests", "7"]),
        Ok(Some((7, View::Plain)))
    );
    assert_eq!(parsed(&["--requests", "7", "--help"]), Ok(None));
    for wrong in [
        &["--requests", "0"][..],
        &["--requests", "x"],
        &["--requests"],
        &["--no"],
        &["a"],
    ] {
        let message = parsed(wrong).unwrap_err();
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert!(HELP.lines().all(|line| line.len() <= 80));
}
