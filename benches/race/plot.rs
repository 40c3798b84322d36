//! The outcomes as a picture: a panel for each server, in whose lower left corner is the ideal.

use std::{
    fmt::{self, Write},
    fs, io,
    path::Path,
};

use crate::{
    outcome::{Finish, Outcome},
    strategy::Strategy,
    table::Row,
};

/// The ticks of the axes, which are logarithmic. What is beyond the last is drawn at it.
const TIMES: [f64; 4] = [1.0, 1.5, 2.0, 3.0];
const SENT: [f64; 5] = [1.0, 3.0, 10.0, 30.0, 100.0];

const COLUMNS: usize = 4;
/// Of a panel, with its labels.
const WIDTH: f64 = 290.0;
const HEIGHT: f64 = 250.0;
/// Of the panel itself: where its first tick is, and how far it is to the last.
const LEFT: f64 = 62.0;
const BOTTOM: f64 = 195.0;
const TIMES_WIDTH: f64 = 160.0;
const SENT_HEIGHT: f64 = 145.0;
/// How far behind the first tick those are drawn who starved.
const STARVED: f64 = 205.0;
/// The room around the outermost ticks.
const ROOM: f64 = 12.0;

const STYLE: &str = "text { font: 12px sans-serif; fill: #333 } .title { font-size: 14px; \
    font-weight: bold } .tick { stroke: #ddd } .frame { fill: none; stroke: #999 }";

/// Draws all outcomes, in panels in the order of their servers, and a legend behind them.
pub(crate) fn draw(file: &Path, rows: &[Row]) -> io::Result<()> {
    let mut svg = String::new();
    write_svg(&mut svg, rows).map_err(io::Error::other)?;
    fs::write(file, svg)
}

fn write_svg(svg: &mut String, rows: &[Row]) -> fmt::Result {
    let panels: Vec<&[Row]> = rows
        .chunk_by(|one, next| one.server == next.server)
        .collect();
    let height = HEIGHT * (panels.len() + 1).div_ceil(COLUMNS) as f64;
    let width = WIDTH * COLUMNS as f64;
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">"#
    )?;
    writeln!(svg, "<style>{STYLE}</style>")?;
    writeln!(svg, r#"<rect width="100%" height="100%" fill="white"/>"#)?;
    for (number, panel) in panels.iter().enumerate() {
        begin_panel(svg, number)?;
        write_axes(svg, &panel[0].server)?;
        for row in *panel {
            let (x, y) = place(&row.outcome);
            write_mark(svg, row.strategy, x, y)?;
        }
        writeln!(svg, "</g>")?;
    }
    begin_panel(svg, panels.len())?;
    for (row, strategy) in (0_u8..).zip(Strategy::ALL) {
        let y = 50.0 + 22.0 * f64::from(row);
        write_mark(svg, strategy.name, LEFT, y)?;
        write_text(svg, "start", LEFT + 18.0, y + 4.0, strategy.name)?;
    }
    writeln!(svg, "</g>\n</svg>")
}

fn begin_panel(svg: &mut String, number: usize) -> fmt::Result {
    let x = WIDTH * (number % COLUMNS) as f64;
    let y = HEIGHT * (number / COLUMNS) as f64;
    writeln!(svg, r#"<g transform="translate({x} {y})">"#)
}

fn write_axes(svg: &mut String, title: &str) -> fmt::Result {
    let (left, right) = (LEFT - ROOM, LEFT + STARVED + ROOM);
    let (top, bottom) = (BOTTOM - SENT_HEIGHT - ROOM, BOTTOM + ROOM);
    let middle = f64::midpoint(left, right);
    writeln!(
        svg,
        r#"<text class="title" text-anchor="middle" x="{middle}" y="28">{title}</text>"#
    )?;
    let times = TIMES.map(|time| (x(time), label(time, &TIMES)));
    for (x, label) in times
        .into_iter()
        .chain([(LEFT + STARVED, "starved".to_owned())])
    {
        writeln!(svg, r#"<path class="tick" d="M{x:.1} {top}V{bottom}"/>"#)?;
        write_text(svg, "middle", x, bottom + 15.0, &label)?;
    }
    for sent in SENT {
        let y = y(sent);
        writeln!(svg, r#"<path class="tick" d="M{left} {y:.1}H{right}"/>"#)?;
        write_text(svg, "end", left - 5.0, y + 4.0, &label(sent, &SENT))?;
    }
    let (width, height) = (right - left, bottom - top);
    writeln!(
        svg,
        r#"<rect class="frame" x="{left}" y="{top}" width="{width}" height="{height}"/>"#
    )?;
    write_text(svg, "middle", middle, bottom + 31.0, "time over ideal")?;
    let (x, y) = (left - 32.0, f64::midpoint(top, bottom));
    writeln!(
        svg,
        r#"<text text-anchor="middle" transform="translate({x} {y}) rotate(-90)">sent per success</text>"#
    )
}

fn place(outcome: &Outcome) -> (f64, f64) {
    let x = match outcome.finish() {
        Finish::AllSucceeded => x(outcome.time),
        Finish::Starved | Finish::OutOfRequests => LEFT + STARVED,
    };
    (x, y(outcome.sent))
}

fn x(time: f64) -> f64 {
    LEFT + TIMES_WIDTH * share(time, &TIMES)
}

fn y(sent: f64) -> f64 {
    BOTTOM - SENT_HEIGHT * share(sent, &SENT)
}

/// The last tick has a plus behind it, for all that is beyond.
fn label(tick: f64, ticks: &[f64]) -> String {
    let plus = if ticks.ends_with(&[tick]) { "+" } else { "" };
    format!("{tick}{plus}")
}

/// How far a value is on the way from the first tick to the last.
fn share(value: f64, ticks: &[f64]) -> f64 {
    let (first, last) = (ticks[0], ticks[ticks.len() - 1]);
    (value / first).ln().clamp(0.0, (last / first).ln()) / (last / first).ln()
}

/// Ours are drawn last; the others have shapes that can be told apart where they coincide.
fn write_mark(svg: &mut String, strategy: &str, x: f64, y: f64) -> fmt::Result {
    let shape = match strategy {
        "nothing" => r##"<path d="M-5-5 5 5M-5 5 5-5" stroke="#777" stroke-width="2"/>"##,
        "backoff" => r##"<path d="M0-7 7 5H-7Z" fill="#e69f00"/>"##,
        "retry-after" => r##"<circle r="8" fill="none" stroke="#0072b2" stroke-width="2"/>"##,
        "openai-python" => r##"<circle r="4" fill="#009e73"/>"##,
        "aws-adaptive" => r##"<path d="M-5-5H5V5H-5Z" fill="#cc79a7"/>"##,
        "governor" => r#"<path d="M-8-8H8V8H-8Z" fill="none" stroke="black" stroke-width="2"/>"#,
        "ours" => r##"<circle r="6" fill="#d50000" stroke="white"/>"##,
        _ => r##"<circle r="3" fill="white" stroke="#d50000" stroke-width="2"/>"##,
    };
    writeln!(
        svg,
        r#"<g transform="translate({x:.1} {y:.1})">{shape}</g>"#
    )
}

fn write_text(svg: &mut String, anchor: &str, x: f64, y: f64, text: &str) -> fmt::Result {
    writeln!(
        svg,
        r#"<text text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{text}</text>"#
    )
}
