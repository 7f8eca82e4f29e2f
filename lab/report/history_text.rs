//! The history as text: one table per series.

use std::fmt;

use super::history::{Ended, History, median};

impl fmt::Display for History {
    /// One table per series, with its medians and the note on its last run, if any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.runs.is_empty() {
            return writeln!(f, "no scenario has been run");
        }
        for (index, series) in self.series().into_iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let first = series[0];
            let tests = if first.is_test() { ", as a test" } else { "" };
            writeln!(f, "{}, {} nodes, {}{tests}", first.scenario, first.nodes, first.accelerator)?;
            writeln!(
                f,
                "  {:<22}{:<10}{:>14}{:>12}{:>14}",
                "begun", "ended", "all green, s", "total, s", "speed factor"
            )?;
            for run in &series {
                let ready =
                    run.ready_seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"));
                let begun = run.at.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
                writeln!(
                    f,
                    "  {begun:<22}{:<10}{ready:>14}{:>12.1}{:>14.2}",
                    run.ended.label(),
                    run.seconds,
                    run.speed_factor
                )?;
            }
            let green = || series.iter().filter(|run| run.ended == Ended::Passed);
            let medians = (
                median(green().filter_map(|run| run.ready_seconds).collect()),
                median(green().map(|run| run.seconds).collect()),
                median(green().filter_map(|run| run.scaled()).collect()),
            );
            if let (Some(ready), Some(total), Some(scaled)) = medians {
                writeln!(
                    f,
                    "  {:<22}{:<10}{ready:>14.1}{total:>12.1}",
                    "median of the green",
                    green().count()
                )?;
                writeln!(f, "  on the reference host all nodes are green after {scaled:.1} s")?;
            }
            if let Some(note) = series.last().and_then(|last| self.regression(last)) {
                writeln!(f, "  {note}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::example as run;

    #[test]
    fn the_table_has_medians_and_the_note() {
        let mut failed = run(4, 0.0, 1.1);
        (failed.ended, failed.ready_seconds) = (Ended::Failed, None);
        let runs = vec![run(1, 50.0, 1.0), run(2, 58.0, 1.1), run(3, 52.0, 1.0), failed, run(5, 90.0, 1.0)];
        insta::assert_snapshot!(History { runs }.to_string());
        insta::assert_snapshot!(History::default().to_string(), @"no scenario has been run");
    }
}
