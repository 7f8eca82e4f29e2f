//! Draws the state of a run.

use std::time::Duration;

use lab_model::events::{Layer, LayerState, Outcome};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Style, Stylize},
    text::{Line, Span},
    widgets::{Block, Paragraph, Wrap},
};

use super::state::{CheckRow, Pane, ScenarioRow, ScreenState, StepRow};
use crate::laps::Lapse;

/// The width of a pane in which most console lines are still distinguishable.
const PANE: u16 = 38;

pub(super) fn draw(frame: &mut Frame<'_>, state: &ScreenState) {
    let checks = state.shown().map_or(0, |row| row.checks.len());
    let below = u16::try_from(checks).unwrap_or(u16::MAX).saturating_add(2).clamp(6, 12);
    let [head, scenarios, stopwatch, panes, foot, next] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(below),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    frame.render_widget(head_line(state), head);
    frame.render_widget(scenario_line(state), scenarios);
    frame.render_widget(stopwatch_line(state), stopwatch);
    draw_panes(frame, panes, state);
    let [left, right] = Layout::horizontal([Constraint::Length(44), Constraint::Min(20)]).areas(foot);
    draw_checks(frame, left, state);
    draw_log(frame, right, state);
    frame.render_widget(next_line(state), next);
}

fn head_line(state: &ScreenState) -> Line<'_> {
    let verdict = match &state.ended {
        None => Span::default(),
        Some(Outcome::Passed) => " PASSED ".bold().green().reversed(),
        Some(_) => " FAILED ".bold().red().reversed(),
    };
    Line::from(vec![
        " lab ".bold().reversed(),
        format!(" {} ", state.run).bold(),
        format!(" {}  {} ", clock(state.now), state.host).into(),
        verdict,
    ])
}

fn scenario_line(state: &ScreenState) -> Line<'_> {
    let spans = state.scenarios.iter().flat_map(|row| {
        let text = format!(" {}", row.name);
        let name = if row.began.is_some() && row.ended.is_none() { text.bold() } else { text.into() };
        let how = row.warm.map(|warm| if warm { " (warm)" } else { " (cold)" }.dim());
        [Some(" ".into()), Some(mark_of(row)), Some(name), how, time_of(row, state.now)].into_iter().flatten()
    });
    Line::from(spans.collect::<Vec<_>>())
}

fn mark_of(row: &ScenarioRow) -> Span<'static> {
    mark(row.began, row.ended.as_ref())
}

fn time_of(row: &ScenarioRow, now: Duration) -> Option<Span<'static>> {
    let until = row.ended.as_ref().map_or(now, |(at, _)| *at);
    row.began.map(|began| format!(" {}", clock(until.saturating_sub(began))).dim())
}

fn stopwatch_line(state: &ScreenState) -> Line<'_> {
    let spans = state.laps.lapses(state.now).into_iter().flat_map(|(name, budget, lapse)| {
        let (text, style) = match lapse {
            Lapse::NotYet => ("–".to_owned(), Style::new().dim()),
            Lapse::Running(time) if time > budget => (clock(time), Style::new().red()),
            Lapse::Running(time) => (clock(time), Style::new().yellow()),
            Lapse::Done(time) if time > budget => (format!("✘ {}", clock(time)), Style::new().red()),
            Lapse::Done(time) => (format!("✔ {}", clock(time)), Style::new().green()),
        };
        [format!("  {name} ").into(), Span::styled(text, style), format!(" of {}", clock(budget)).dim()]
    });
    Line::from(spans.collect::<Vec<_>>())
}

/// Draws the panes side by side, in as many rows as necessary.
fn draw_panes(frame: &mut Frame<'_>, area: Rect, state: &ScreenState) {
    let beside = usize::from((area.width / PANE).max(1));
    let rows = state.nodes.len().div_ceil(beside).max(1);
    let areas = Layout::vertical(vec![Constraint::Fill(1); rows]).split(area);
    for (panes, area) in state.nodes.chunks(state.nodes.len().div_ceil(rows).max(1)).zip(areas.iter()) {
        let columns = Layout::horizontal(vec![Constraint::Fill(1); panes.len()]).split(*area);
        for (pane, area) in panes.iter().zip(columns.iter()) {
            draw_pane(frame, *area, pane, state.now);
        }
    }
}

fn draw_pane(frame: &mut Frame<'_>, area: Rect, pane: &Pane, now: Duration) {
    let all_green = Layer::ALL
        .iter()
        .all(|layer| pane.layers.get(layer).is_some_and(|(state, _)| *state == LayerState::Green));
    let style = match (&pane.lost, &pane.step) {
        (Some(_), _) => Style::new().red(),
        (None, Some(StepRow { ended: Some((_, Outcome::Failed { .. })), .. })) => Style::new().red(),
        _ if all_green => Style::new().green(),
        _ => Style::new(),
    };
    let title = format!(" {} · {} · {} · {} ", pane.name, pane.kind, pane.role, pane.address);
    let block = Block::bordered().title(title).border_style(style);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let mut lines = vec![step_line(pane, now)];
    for layer in Layer::ALL {
        if let Some((state, detail)) = pane.layers.get(&layer) {
            let green = *state == LayerState::Green;
            let mark = if green { "✔".green() } else { "…".yellow() };
            let said = if green { String::new() } else { format!(": {detail}") };
            lines.push(Line::from(vec![mark, format!(" {}{said}", layer.label()).into()]));
        }
    }
    let room = usize::from(inner.height).saturating_sub(lines.len());
    let tail = pane.console.len().saturating_sub(room);
    lines.extend(pane.console.iter().skip(tail).map(|line| Line::from(line.as_str().dim())));
    frame.render_widget(Paragraph::new(lines), inner);
}

fn step_line(pane: &Pane, now: Duration) -> Line<'_> {
    let cost = pane.cost.map(|(cpu, rss)| format!("  CPU {cpu:.0} s, {} MiB", rss >> 20).dim());
    let step = match (&pane.lost, &pane.step) {
        (Some(status), _) => format!("QEMU ended: {status}").red(),
        (None, None) => "waits".dim(),
        (None, Some(row)) => {
            let until = row.ended.as_ref().map_or(now, |(at, _)| *at);
            let text = format!("{} {}", row.step.label(), clock(until.saturating_sub(row.began)));
            match &row.ended {
                None => text.bold(),
                Some((_, Outcome::Passed)) => text.green(),
                Some((_, Outcome::Failed { cause } | Outcome::NotRun { cause })) => {
                    format!("{text} failed: {cause}").red()
                }
            }
        }
    };
    Line::from_iter(std::iter::once(step).chain(cost))
}

fn draw_checks(frame: &mut Frame<'_>, area: Rect, state: &ScreenState) {
    let block = Block::bordered().title(" checks ");
    let checks = state.shown().map_or(&[][..], |row| &row.checks);
    // The running entry stays visible.
    let room = usize::from(area.height.saturating_sub(2));
    let present = checks.iter().rposition(|check| check.began.is_some()).unwrap_or(0);
    let skip = present.saturating_sub(room.saturating_sub(2)).min(checks.len().saturating_sub(room));
    let lines: Vec<_> = checks.iter().skip(skip).map(|check| check_line(check, state.now)).collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn check_line(check: &CheckRow, now: Duration) -> Line<'_> {
    let time = check.began.map(|began| {
        let until = check.ended.as_ref().map_or(now, |(at, _)| *at);
        format!("  {}", clock(until.saturating_sub(began))).dim()
    });
    let name = [mark(check.began, check.ended.as_ref()), format!(" {}", check.id).into()];
    Line::from_iter(name.into_iter().chain(time))
}

fn mark(began: Option<Duration>, ended: Option<&(Duration, Outcome)>) -> Span<'static> {
    match (began, ended) {
        (_, Some((_, Outcome::Passed))) => "✔".green(),
        (_, Some((_, Outcome::Failed { .. }))) => "✘".red(),
        (_, Some((_, Outcome::NotRun { .. }))) => "–".yellow(),
        (Some(_), None) => "▶".yellow(),
        (None, None) => "·".dim(),
    }
}

fn draw_log(frame: &mut Frame<'_>, area: Rect, state: &ScreenState) {
    let block = Block::bordered().title(" what happened ");
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let width = usize::from(inner.width).max(1);
    // From the newest line upwards, as many lines as fit after wrapping.
    let mut room = usize::from(inner.height);
    let mut lines = Vec::new();
    for (at, text) in state.log.iter().rev() {
        let text = format!("{:>5} {text}", clock(*at));
        let rows = text.chars().count().div_ceil(width).max(1);
        if rows > room && !lines.is_empty() {
            break;
        }
        room = room.saturating_sub(rows);
        let failed = text.contains("FAILED");
        lines.push(if failed { Line::from(text).red() } else { Line::from(text) });
    }
    lines.reverse();
    frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), inner);
}

fn next_line(state: &ScreenState) -> Line<'_> {
    let how_to_end = if state.ended.is_none() { "   Ctrl-C ends the run and cleans up" } else { "" };
    Line::from(vec![" next: ".bold(), state.next().into(), how_to_end.dim()])
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}
