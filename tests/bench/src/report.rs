//! What was measured, as tables for people and as JSON lines for programs.

use std::fmt;

use serde_json::{Value, json};

/// Says on standard error what is going on.
pub fn progress(what: impl fmt::Display) {
    eprintln!("  {what}");
}

/// What the rounds measured of one thing, in their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples(pub Vec<f64>);

impl FromIterator<f64> for Samples {
    fn from_iter<I: IntoIterator<Item = f64>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

impl Samples {
    /// Of one measurement.
    pub fn one(sample: f64) -> Self {
        Self(vec![sample])
    }

    /// The middle one, or the mean of the two in the middle; `None` where nothing was measured.
    pub fn median(&self) -> Option<f64> {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(sorted[middle]),
            _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
        }
    }

    /// The sample that a share (0 to 1) of all does not pass.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let sorted = self.sorted();
        let at = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(at.saturating_sub(1)).copied()
    }

    /// How many times the other's sample of the same round each one is: a machine that is slower
    /// for a while is slower for both.
    pub fn of(&self, other: &Self) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        pairs.filter(|(_, other)| **other > 0.0).map(|(ours, other)| ours / other).collect()
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

/// What design 8 asks for: a bound and its unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// No less.
    AtLeast(f64, &'static str),
    /// No more.
    AtMost(f64, &'static str),
}

impl Goal {
    /// At least so many times as fast.
    pub const fn times(times: f64) -> Self {
        Self::AtLeast(times, "×")
    }

    /// Whether it is reached, by the figure as it is printed: what comes after that is chance.
    pub fn is_met(self, figure: f64) -> bool {
        let figure: f64 = digits(figure).parse().unwrap_or(figure);
        match self {
            Self::AtLeast(least, _) => figure >= least,
            Self::AtMost(most, _) => figure <= most,
        }
    }
}

/// A cell of a table.
#[derive(Clone, Debug)]
pub enum Cell {
    /// What is no figure.
    Text(String),
    /// Times a second.
    Rate(Samples),
    /// How many times another figure of the same round.
    Ratio(Samples),
    /// A figure and its unit.
    Figure(Samples, &'static str),
    /// A goal, and the figure that it is for.
    Goal(Goal, Option<f64>),
    /// Nothing to say.
    Empty,
}

impl Cell {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// One figure.
    pub fn figure(figure: f64, unit: &'static str) -> Self {
        Self::Figure(Samples::one(figure), unit)
    }

    /// The goal for these samples, if there is one.
    pub fn goal(goal: Option<Goal>, samples: &Samples) -> Self {
        goal.map_or(Self::Empty, |goal| Self::Goal(goal, samples.median()))
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Rate(samples) => json!({ "per_second": samples.median(), "rounds": samples.0 }),
            Self::Ratio(samples) => json!({ "times": samples.median(), "rounds": samples.0 }),
            Self::Figure(samples, unit) => {
                json!({ "figure": samples.median(), "unit": unit, "rounds": samples.0 })
            }
            Self::Goal(goal, figure) => {
                let (bound, value, unit) = match goal {
                    Goal::AtLeast(least, unit) => ("at_least", least, unit),
                    Goal::AtMost(most, unit) => ("at_most", most, unit),
                };
                json!({ bound: value, "unit": unit, "met": figure.map(|f| goal.is_met(f)) })
            }
            Self::Empty => Value::Null,
        }
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Rate(samples) => match samples.median() {
                Some(rate) => write!(f, "{}/s", digits(rate)),
                None => f.write_str("–"),
            },
            Self::Ratio(samples) => ratio(f, samples),
            Self::Figure(samples, unit) => match samples.median() {
                Some(figure) => write!(f, "{}{}{unit}", digits(figure), space(unit)),
                None => f.write_str("–"),
            },
            Self::Goal(goal, figure) => {
                let (sign, bound, unit) = match goal {
                    Goal::AtLeast(least, unit) => ('≥', least, unit),
                    Goal::AtMost(most, unit) => ('≤', most, unit),
                };
                let met = match figure.map(|figure| goal.is_met(figure)) {
                    Some(true) => ", met",
                    Some(false) => ", MISSED",
                    None => "",
                };
                write!(f, "{sign} {bound}{}{unit}{met}", space(unit))
            }
            Self::Empty => Ok(()),
        }
    }
}

/// The median, and how far the rounds lie apart.
fn ratio(f: &mut fmt::Formatter<'_>, samples: &Samples) -> fmt::Result {
    let sorted = samples.sorted();
    match (samples.median(), &sorted[..]) {
        (Some(median), [least, .., most]) => {
            write!(f, "{}× ({}–{})", digits(median), digits(*least), digits(*most))
        }
        (Some(median), _) => write!(f, "{}×", digits(median)),
        (None, _) => f.write_str("–"),
    }
}

fn space(unit: &str) -> &'static str {
    if unit.is_empty() || unit == "×" { "" } else { " " }
}

/// As many digits as mean something.
fn digits(figure: f64) -> String {
    match figure {
        f if f >= 100.0 => format!("{f:.0}"),
        f if f >= 10.0 => format!("{f:.1}"),
        f if f >= 0.1 => format!("{f:.2}"),
        f => format!("{f:.3}"),
    }
}

/// A table with a title, a head, rows, and what one must know to read it.
pub struct Table {
    suite: &'static str,
    title: String,
    heads: Vec<String>,
    rows: Vec<Vec<Cell>>,
    notes: Vec<String>,
}

impl Table {
    /// An empty table with its column heads.
    pub fn new(suite: &'static str, title: impl Into<String>, heads: &[&str]) -> Self {
        let heads = heads.iter().map(|head| (*head).to_owned()).collect();
        Self { suite, title: title.into(), heads, rows: Vec::new(), notes: Vec::new() }
    }

    /// Adds a row, and says it.
    pub fn row(&mut self, cells: Vec<Cell>) {
        let said: Vec<String> = cells.iter().map(Cell::to_string).collect();
        progress(said.join("  "));
        self.rows.push(cells);
    }

    /// Adds what one must know.
    pub fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// The table as one JSON object.
    pub fn json(&self) -> Value {
        let row = |cells: &Vec<Cell>| -> Value {
            let pairs = self.heads.iter().zip(cells);
            pairs.map(|(head, cell)| (head.clone(), cell.json())).collect()
        };
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        json!({ "suite": self.suite, "title": self.title, "rows": rows, "notes": self.notes })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n### {}\n", self.title)?;
        let mut lines = vec![self.heads.clone()];
        lines.extend(self.rows.iter().map(|row| row.iter().map(Cell::to_string).collect()));
        let widths: Vec<usize> = (0..self.heads.len())
            .map(|at| lines.iter().filter_map(|line| line.get(at)).map(|c| c.chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        for (number, line) in lines.iter().enumerate() {
            let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(f, "| {} |", cells.collect::<Vec<_>>().join(" | "))?;
            if number == 0 {
                let rules = widths.iter().map(|width| "-".repeat(*width));
                writeln!(f, "| {} |", rules.collect::<Vec<_>>().join(" | "))?;
            }
        }
        if !self.notes.is_empty() {
            writeln!(f)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "- {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(samples: &[f64]) -> Samples {
        samples.iter().copied().collect()
    }

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(samples(&[]).median(), None);
        assert_eq!(samples(&[3.0, 1.0, 2.0]).median(), Some(2.0));
        assert_eq!(samples(&[4.0, 1.0, 2.0, 3.0]).median(), Some(2.5));
    }

    #[test]
    fn a_quantile_is_one_of_the_samples() {
        let hundred: Samples = (1..=100).map(f64::from).collect();
        assert_eq!(hundred.quantile(0.5), Some(50.0));
        assert_eq!(hundred.quantile(0.99), Some(99.0));
        assert_eq!(samples(&[7.0]).quantile(0.99), Some(7.0));
        assert_eq!(samples(&[]).quantile(0.5), None);
    }

    #[test]
    fn ratios_are_made_within_a_round() {
        // The second round was twice as slow for both.
        let ratio = samples(&[30.0, 15.0]).of(&samples(&[10.0, 5.0]));
        assert_eq!(ratio, samples(&[3.0, 3.0]));
        assert_eq!(Cell::Ratio(ratio).to_string(), "3.00× (3.00–3.00)");
    }

    #[test]
    fn goals_say_whether_they_are_met() {
        let goal = |goal, figure| Cell::Goal(goal, Some(figure)).to_string();
        assert_eq!(goal(Goal::times(3.0), 3.0), "≥ 3×, met");
        assert_eq!(goal(Goal::AtMost(10.0, "KiB"), 10.1), "≤ 10 KiB, MISSED");
        assert_eq!(goal(Goal::AtMost(2.0, ""), 2.003), "≤ 2, met");
        assert_eq!(Cell::Goal(Goal::times(0.5), None).to_string(), "≥ 0.5×");
    }

    #[test]
    fn a_row_is_an_object_by_head() {
        let mut table = Table::new("s", "t", &["operation", "goal"]);
        table.row(vec![Cell::text("NOOP"), Cell::Goal(Goal::times(1.0), Some(2.0))]);
        let expected = json!({ "operation": "NOOP", "goal":
            { "at_least": 1.0, "unit": "×", "met": true } });
        assert_eq!(table.json()["rows"][0], expected);
    }
}
