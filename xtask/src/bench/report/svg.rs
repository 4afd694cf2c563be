//! `--svg FILE`: a report as a picture of horizontal bars.
//!
//! Interface: SVG 1.1 with a style sheet that follows the reader's light or dark
//! colour scheme (`prefers-color-scheme` of CSS Media Queries 5). The picture has a
//! background of its own, so it can be read on any page.
//!
//! Equal reports give equal text; nothing here reads a clock or a file.

use std::fmt::Write;

use super::{Report, Row, short};

/// The picture of a report: a title, panels of bars, and the facts of the run.
///
/// Rows called `A: B` are compared by B: each B has a panel of its own, with one bar
/// for each A. Other rows share a panel if they share a unit. Rows whose sum is the
/// row `total` behind them are phases: each bar begins where the last one ended.
#[must_use]
pub fn draw(report: &Report) -> String {
    let panels = panels(&report.rows);
    let labels = panels.iter().flat_map(|panel| &panel.bars);
    let longest = labels.map(|bar| bar.label.chars().count()).max().unwrap_or(0);
    let bars_x = MARGIN + longest as f64 * CHARACTER + GAP;
    let width = bars_x + BAR + NUMBER;
    let mut canvas = Canvas { shapes: String::new(), bars_x, width, y: MARGIN };
    let runs = report.rows.iter().map(|row| row.runs).max().unwrap_or(0);
    let title = match runs {
        0 | 1 => format!("bench {}", report.bench),
        _ => format!("bench {}: {} of {runs} runs, with spread", report.bench, report.statistic),
    };
    canvas.line("t", &title);
    for panel in &panels {
        canvas.panel(panel);
    }
    canvas.y += GAP;
    for facts in report.facts.0.chunks(FACTS_A_LINE) {
        let facts: Vec<_> = facts.iter().map(|(name, value)| format!("{name} {value}")).collect();
        canvas.line("f", &facts.join(", "));
    }
    canvas.finish(&title)
}

/// Length of the longest bar of a panel, in pixels.
const BAR: f64 = 360.0;
/// Height of a bar, in pixels.
const HEIGHT: f64 = 16.0;
/// Distance between the tops of two lines or bars, in pixels.
const STEP: f64 = 24.0;
/// Empty space at the edges, in pixels.
const MARGIN: f64 = 16.0;
/// Empty space between a label, its bar and its number, in pixels.
const GAP: f64 = 8.0;
/// Width of a character at the style sheet's font size, in pixels, rounded up.
const CHARACTER: f64 = 7.0;
/// Room for a number and its unit behind the longest bar, in pixels.
const NUMBER: f64 = 160.0;
/// Facts in one line below the bars.
const FACTS_A_LINE: usize = 3;
/// Difference, as a share of the total, up to which rows add up to it.
const ROUNDING: f64 = 1e-6;

/// Colours and fonts: `b` background, `t` title, `f` facts, `p` bar, `s` spread.
const STYLE: &str = "text{font:13px sans-serif;fill:#1f2328}.b{fill:#fff;stroke:#d0d7de}\
    .t{font-weight:bold}.f{font-size:11px;fill:#59636e}.p{fill:#5b9bd5}.s{stroke:#1f2328;stroke-width:2}\
    @media (prefers-color-scheme:dark){text{fill:#e6edf3}.b{fill:#0d1117;stroke:#3d444d}\
    .f{fill:#9198a1}.p{fill:#3a76ad}.s{stroke:#e6edf3}}";

/// Bars that have one scale.
#[derive(Debug, PartialEq)]
struct Panel<'a> {
    /// Heading; empty if the labels say all.
    heading: &'a str,
    unit: &'a str,
    bars: Vec<Bar<'a>>,
}

/// One row of the report, as it is drawn.
#[derive(Debug, PartialEq)]
struct Bar<'a> {
    label: &'a str,
    /// Start of the bar, in the row's unit.
    from: f64,
    row: &'a Row,
}

fn panels(rows: &[Row]) -> Vec<Panel<'_>> {
    let are_compared = rows.iter().all(|row| row.name.contains(": "));
    let mut panels: Vec<Panel<'_>> = Vec::new();
    for (row, from) in rows.iter().zip(starts(rows)) {
        let (label, heading) = match row.name.split_once(": ") {
            Some(names) if are_compared => names,
            _ => (row.name.as_str(), ""),
        };
        let bar = Bar { label, from, row };
        let same = |panel: &&mut Panel<'_>| panel.heading == heading && panel.unit == row.unit;
        match panels.iter_mut().find(same) {
            Some(panel) => panel.bars.push(bar),
            None => panels.push(Panel { heading, unit: row.unit, bars: vec![bar] }),
        }
    }
    panels
}

/// Start of the bar of each row: 0, or the end of the last phase.
fn starts(rows: &[Row]) -> Vec<f64> {
    let mut starts = vec![0.0; rows.len()];
    let Some(at) = rows.iter().position(|row| row.name == "total") else { return starts };
    let (phases, total) = (&rows[..at], rows[at].value);
    let sum: f64 = phases.iter().map(|row| row.value).sum();
    if (sum - total).abs() <= total.abs() * ROUNDING {
        let mut end = 0.0;
        for (start, row) in starts.iter_mut().zip(phases) {
            *start = end;
            end += row.value;
        }
    }
    starts
}

/// The picture so far.
struct Canvas {
    shapes: String,
    /// Left edge of the bars, in pixels.
    bars_x: f64,
    /// Width of the picture, in pixels.
    width: f64,
    /// Top of the next line, in pixels.
    y: f64,
}

impl Canvas {
    fn panel(&mut self, panel: &Panel<'_>) {
        if !panel.heading.is_empty() {
            self.y += GAP;
            self.line("t", panel.heading);
        }
        let end = |bar: &Bar<'_>| bar.from + bar.row.value.max(bar.row.max);
        let longest = panel.bars.iter().map(end).fold(0.0, f64::max);
        let pixels = |number: f64| match longest > 0.0 && number.is_finite() {
            true => number.clamp(0.0, longest) / longest * BAR,
            false => 0.0,
        };
        for bar in &panel.bars {
            self.bar(bar, panel.unit, pixels);
        }
    }

    fn bar(&mut self, bar: &Bar<'_>, unit: &str, pixels: impl Fn(f64) -> f64) {
        let Bar { label, from, row } = bar;
        let (x, y) = (self.bars_x + pixels(*from), self.y);
        let width = pixels(row.value);
        self.text("", MARGIN, label);
        self.shape(format_args!(
            r#"<rect class="p" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{HEIGHT}"/>"#
        ));
        let (least, most) = (x + pixels(row.min), x + pixels(row.max));
        if row.max > row.min {
            let middle = y + HEIGHT / 2.0;
            self.shape(format_args!(r#"<path class="s" d="M{least:.1} {middle:.1}H{most:.1}"/>"#));
        }
        let number = format!("{} {unit}", short(row.value));
        self.text("", (x + width).max(most) + GAP, number.trim_end());
        self.y += STEP;
    }

    /// A line of text at the left edge.
    fn line(&mut self, class: &str, text: &str) {
        self.text(class, MARGIN, text);
        self.width = self.width.max(MARGIN + text.chars().count() as f64 * CHARACTER + MARGIN);
        self.y += STEP;
    }

    fn text(&mut self, class: &str, x: f64, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(r#" class="{class}""#) };
        // The baseline is above the bottom of the line, by the depth of a letter such as g.
        let y = self.y + HEIGHT - 3.0;
        self.shape(format_args!(r#"<text{class} x="{x:.1}" y="{y:.1}">{}</text>"#, escape(text)));
    }

    fn shape(&mut self, shape: std::fmt::Arguments<'_>) {
        let _ = writeln!(self.shapes, "{shape}"); // a String takes everything
    }

    fn finish(self, title: &str) -> String {
        let (width, height) = (self.width, self.y + MARGIN - (STEP - HEIGHT));
        let title = escape(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\">\n<title>{title}</title>\n\
             <style>{STYLE}</style>\n\
             <rect class=\"b\" x=\".5\" y=\".5\" width=\"{}\" height=\"{}\" rx=\"6\"/>\n{}</svg>\n",
            width - 1.0,
            height - 1.0,
            self.shapes
        )
    }
}

/// Text in which no character begins markup (XML 1.0, section 2.4).
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::super::facts::Facts;
    use super::*;

    fn row(name: &str, unit: &'static str, value: f64) -> Row {
        Row::of(name, unit, value, &[value])
    }

    fn report(rows: Vec<Row>) -> Report {
        let facts = Facts(vec![("host", "A <B> & C".into())]);
        Report { bench: "boot", statistic: "best", facts, rows }
    }

    /// The value of an attribute in each element of a class, in order.
    fn attributes(svg: &str, class: &str, name: &str) -> Vec<f64> {
        let class = format!("class=\"{class}\"");
        let name = format!(" {name}=\"");
        let elements = svg.lines().filter(|line| line.contains(&class));
        let values = elements.filter_map(|line| line.split_once(&name)?.1.split('"').next());
        values.map(|value| value.parse().unwrap()).collect()
    }

    #[test]
    fn phases_stand_one_behind_the_other() {
        let rows = [("firmware", 10.0), ("kernel", 60.0), ("init", 20.0), ("total", 90.0)];
        let mut rows = rows.map(|(name, value)| row(name, "ms", value)).to_vec();
        rows.push(row("total, --strip=never", "ms", 180.0));
        let svg = draw(&report(rows.clone()));
        let widths = attributes(&svg, "p", "width");
        assert_eq!(widths, [20.0, 120.0, 40.0, 180.0, 360.0]);
        let xs = attributes(&svg, "p", "x");
        let from_total: Vec<_> = xs.iter().map(|x| x - xs[3]).collect();
        assert_eq!(from_total, [0.0, 20.0, 140.0, 0.0, 0.0]);
        // If the numbers do not add up, the rows are not phases.
        rows[0].value = 11.0;
        assert_eq!(starts(&rows), [0.0; 5]);
    }

    #[test]
    fn compared_rows_have_a_panel_for_each_thing_compared() {
        let rows = [
            row("erofs: boot", "ms", 1.0),
            row("erofs: memory", "MiB", 2.0),
            row("ext4: boot", "ms", 3.0),
            row("ext4: memory", "MiB", 4.0),
        ];
        let found: Vec<_> = panels(&rows)
            .iter()
            .map(|panel| {
                let labels: Vec<_> = panel.bars.iter().map(|bar| bar.label).collect();
                (panel.heading, panel.unit, labels)
            })
            .collect();
        let labels = vec!["erofs", "ext4"];
        assert_eq!(found, [("boot", "ms", labels.clone()), ("memory", "MiB", labels)]);
        // If one row has a name without a colon, only the unit decides about panels.
        let rows = [row("init", "bytes", 9.0), row("init: .text", "bytes", 5.0)];
        assert_eq!(panels(&rows).len(), 1);
    }

    #[test]
    fn numbers_have_units_and_a_spread() {
        let spread = Row::of("whole run", "ms", 200.0, &[100.0, 400.0]);
        let svg = draw(&report(vec![spread, row("ratio", "", 0.5)]));
        assert!(svg.contains(">200 ms</text>") && svg.contains(">0.500</text>"), "{svg}");
        assert_eq!(svg.matches("<path").count(), 1, "{svg}");
        // 100 to 400 of 400 are three quarters of the longest bar.
        let path = svg.lines().find(|line| line.starts_with("<path")).unwrap();
        let numbers: Vec<f64> =
            path.split(['M', ' ', 'H', '"']).filter_map(|word| word.parse().ok()).collect();
        assert!((numbers[2] - numbers[0] - BAR * 0.75).abs() < 0.2, "{path}");
        assert!(svg.contains("bench boot: best of 2 runs"), "{svg}");
    }

    #[test]
    fn odd_reports_give_a_picture() {
        for rows in [
            vec![],
            vec![row("nothing", "ms", 0.0)],
            vec![row("not a number", "ms", f64::NAN), row("total", "ms", f64::NAN)],
            vec![row("endless", "ms", f64::INFINITY)],
        ] {
            let svg = draw(&report(rows));
            let widths = attributes(&svg, "p", "width");
            assert!(widths.iter().all(|width| width.is_finite()), "{svg}");
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
            assert!(svg.contains("host A &lt;B&gt; &amp; C"), "{svg}");
        }
    }
}
