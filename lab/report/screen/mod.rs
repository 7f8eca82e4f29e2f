//! Full-screen view of a run: the plan, one pane per node, the checks, the stopwatch, and the next
//! steps. [`ScreenState`] is computed from events alone and [`draw`] draws it, so that a recording
//! looks the same as the run.

mod draw;
mod state;

use std::{io, time::Duration};

use lab_model::events::Subscription;
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen},
    },
};
use state::ScreenState;
use tokio::time::{Instant, MissedTickBehavior};

use super::plain;

/// Pause between two frames. Times are shown in seconds, and drawing takes processor time from the
/// guests.
const FRAME: Duration = Duration::from_millis(500);
/// In smaller terminals, plain lines are more useful.
const SMALLEST: (u16, u16) = (72, 20);

/// Whether the terminal on standard error is large enough.
pub(super) fn fits() -> bool {
    ratatui::crossterm::terminal::size()
        .is_ok_and(|(columns, rows)| columns >= SMALLEST.0 && rows >= SMALLEST.1)
}

/// Shows events on the whole terminal until the stream ends, and then restores the terminal. If
/// drawing fails, events are printed as lines.
pub(super) async fn show(mut events: Subscription) {
    if draw_until_end(&mut events).await.is_err() {
        plain::show(events).await;
    }
}

async fn draw_until_end(events: &mut Subscription) -> io::Result<()> {
    let mut screen = Screen::open()?;
    let mut state = ScreenState::default();
    let began = Instant::now();
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some(event) => state.add(&event),
                None => return Ok(()),
            },
            _ = frames.tick() => {
                state.now = began.elapsed();
                screen.draw(&state)?;
            }
        }
    }
}

/// The alternate screen of the terminal. No keys are read, so Ctrl-C keeps its meaning.
struct Screen(Terminal<CrosstermBackend<io::Stderr>>);

impl Screen {
    fn open() -> io::Result<Self> {
        let screen = Self(Terminal::new(CrosstermBackend::new(io::stderr()))?);
        execute!(io::stderr(), EnterAlternateScreen, Hide)?;
        Ok(screen)
    }

    fn draw(&mut self, state: &ScreenState) -> io::Result<()> {
        self.0.draw(|frame| draw::draw(frame, state)).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // If this fails as well, there is no other way to restore the terminal.
        let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;
    use crate::read_recording;
    use lab_model::{
        events::{Event, EventKind, Outcome, Planned, Step, Subject},
        node::{Kind, Role},
    };

    /// The screen of a recorded run at second `at`, on a terminal of the given size.
    fn picture(events: &[Event], at: u64, (columns, rows): (u16, u16)) -> String {
        let mut state = ScreenState::default();
        let at = Duration::from_secs(at);
        for event in events.iter().filter(|event| event.at <= at) {
            state.add(event);
        }
        state.now = at;
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).expect("terminal");
        terminal.draw(|frame| draw::draw(frame, &state)).expect("picture");
        terminal.backend().to_string()
    }

    /// A recorded run, as the first of two planned scenarios.
    fn rehearsal(recording: &str) -> Vec<Event> {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings").join(recording);
        let mut events = read_recording(&path).expect("recording");
        let of = |event: &Event| match &event.kind {
            EventKind::ScenarioStarted { scenario, .. } => Some(scenario.clone()),
            _ => None,
        };
        let mut checks: Vec<String> = Vec::new();
        for event in &events {
            if let EventKind::CheckFinished { check, .. } = &event.kind {
                checks.push(check.clone());
            }
        }
        let first = events.iter().find_map(of).expect("scenario");
        let planned = |scenario: &str, checks: Vec<String>| Planned { scenario: scenario.into(), checks };
        let next = planned("mixed-role-cluster", vec!["roles".into()]);
        let kind = EventKind::Agenda { scenarios: vec![planned(&first, checks), next] };
        events.insert(1, Event { seq: 0, at: Duration::ZERO, kind });
        events
    }

    #[test]
    fn a_green_run_looks_like_this_while_it_forms_and_while_it_is_checked() {
        let events = rehearsal("green.jsonl");
        insta::assert_snapshot!("forming", picture(&events, 25, (120, 36)));
        insta::assert_snapshot!("checking", picture(&events, 78, (120, 36)));
        insta::assert_snapshot!("done", picture(&events, 10_000, (120, 36)));
    }

    #[test]
    fn a_red_run_shows_its_cause() {
        let events = rehearsal("red.jsonl");
        insta::assert_snapshot!("red", picture(&events, 10_000, (100, 30)));
    }

    #[test]
    fn no_terminal_is_too_small_or_too_large_to_draw_on() {
        let events = rehearsal("green.jsonl");
        for size in [(1, 1), (10, 3), (72, 20), (300, 100)] {
            assert!(!picture(&events, 40, size).is_empty());
        }
    }

    #[test]
    fn what_comes_next_is_a_step_of_the_way_that_the_cluster_starts() {
        let node: lab_model::node::NodeName = "cp-1".parse().expect("name");
        let next = |warm: bool, step: Step| {
            let subject = Subject::Node(node.clone());
            let kinds = [
                EventKind::ScenarioStarted { scenario: "a".into(), question: String::new() },
                EventKind::ClusterStarts { warm, reason: String::new() },
                EventKind::NodePlanned {
                    node: node.clone(),
                    kind: Kind::ControlPlane,
                    role: Role::new("compute").expect("role"),
                    address: [10, 5, 0, 2].into(),
                    image: None,
                },
                EventKind::StepStarted { subject, step },
            ];
            let mut state = ScreenState::default();
            for (seq, kind) in (0..).zip(kinds) {
                state.add(&Event { seq, at: Duration::ZERO, kind });
            }
            state.next()
        };
        assert_eq!(next(true, Step::Restore), "machine API (a)");
        assert_eq!(next(true, Step::Prepare), "restore (a)");
        assert_eq!(next(false, Step::Prepare), "boot (a)");
        assert_eq!(next(false, Step::ApplyConfig), "machine API (a)");
        assert_eq!(next(false, Step::Teardown), "the verdict");
    }

    #[test]
    fn before_anything_is_known_nothing_is_claimed() {
        let note = EventKind::Note { subject: Subject::Cluster, text: "images are checked".into() };
        let events = [Event { seq: 0, at: Duration::ZERO, kind: note }];
        let shown = picture(&events, 1, (80, 20));
        assert!(shown.contains("images are checked") && !shown.contains('✔'), "{shown}");
        let ended = EventKind::RunFinished { outcome: Outcome::Passed };
        let shown = picture(&[Event { seq: 0, at: Duration::ZERO, kind: ended }], 1, (80, 20));
        assert!(shown.contains("PASSED"), "{shown}");
    }
}
