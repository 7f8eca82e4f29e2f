//! Live output of a run: the full-screen view or one line per node on a terminal, plain lines
//! elsewhere.

use std::{collections::BTreeMap, io::IsTerminal, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use lab_model::{
    events::{Event, EventKind, Layer, LayerState, Outcome, Subject, Subscription},
    node::NodeName,
};
use tokio::task::JoinHandle;

use super::{plain, screen};

/// The display mode of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Display {
    /// The full-screen view.
    Screen,
    /// One updating line per node.
    Live,
    /// One line per event.
    Plain,
    /// Prints nothing.
    Quiet,
}

impl Display {
    /// Live on a terminal; plain elsewhere, in CI, and if colour is disabled.
    pub fn for_stderr() -> Self {
        let dumb = ["CI", "NO_COLOR"].iter().any(|name| std::env::var_os(name).is_some());
        if std::io::stderr().is_terminal() && !dumb { Self::Live } else { Self::Plain }
    }

    /// Same as [`Display::for_stderr`], but full-screen if the terminal is large enough.
    pub fn screen_on_stderr() -> Self {
        match Self::for_stderr() {
            Self::Live if screen::fits() => Self::Screen,
            smaller => smaller,
        }
    }
}

/// Shows events on standard error until the stream ends.
pub fn display(mut events: Subscription, how: Display) -> JoinHandle<()> {
    tokio::spawn(async move {
        match how {
            Display::Screen => screen::show(events).await,
            Display::Live => View::default().follow(events).await,
            Display::Plain => plain::show(events).await,
            Display::Quiet => while events.recv().await.is_some() {},
        }
    })
}

struct View {
    bars: MultiProgress,
    nodes: BTreeMap<NodeName, NodeLine>,
    status: Option<ProgressBar>,
}

struct NodeLine {
    bar: ProgressBar,
    step: String,
    layers: BTreeMap<Layer, bool>,
}

impl Default for View {
    fn default() -> Self {
        Self {
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(8)),
            nodes: BTreeMap::new(),
            status: None,
        }
    }
}

impl View {
    async fn follow(mut self, mut events: Subscription) {
        while let Some(event) = events.recv().await {
            self.show(&event);
        }
        self.finish();
    }

    fn show(&mut self, event: &Event) {
        match &event.kind {
            EventKind::ScenarioStarted { .. } => {
                self.finish();
                self.print(event);
            }
            EventKind::NodePlanned { node, kind, role, address, .. } => {
                let bar = self.line(&format!("{node:<12} {kind:<13} {role:<8} {address:<11}"));
                let line = NodeLine { bar, step: String::new(), layers: BTreeMap::new() };
                self.nodes.insert(node.clone(), line);
            }
            EventKind::StepStarted { subject: Subject::Node(node), step } => {
                if let Some(line) = self.nodes.get_mut(node) {
                    line.step = step.label().to_owned();
                    line.bar.reset_elapsed();
                    line.draw();
                }
            }
            EventKind::StepFinished { subject: Subject::Node(node), outcome, .. } => {
                if let (Some(line), Outcome::Failed { .. }) = (self.nodes.get_mut(node), outcome) {
                    line.step.push_str(" failed");
                    line.draw();
                }
                if !outcome.passed() {
                    self.print(event);
                }
            }
            EventKind::LayerChanged { node, layer, state, .. } => {
                if let Some(line) = self.nodes.get_mut(node) {
                    line.layers.insert(*layer, *state == LayerState::Green);
                    line.draw();
                }
            }
            EventKind::CheckStarted { check, .. } => {
                let bar = self.line("check");
                bar.set_message(check.clone());
                self.status = Some(bar);
            }
            EventKind::CheckFinished { .. } => {
                if let Some(bar) = self.status.take() {
                    bar.finish_and_clear();
                }
                self.print(event);
            }
            EventKind::Console { .. } | EventKind::StepStarted { .. } => {}
            _ => self.print(event),
        }
    }

    fn line(&self, prefix: &str) -> ProgressBar {
        let style = ProgressStyle::with_template("{spinner} {prefix} {elapsed:>4} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = self.bars.add(ProgressBar::new_spinner().with_style(style).with_prefix(prefix.to_owned()));
        bar.enable_steady_tick(Duration::from_millis(250));
        bar
    }

    fn print(&self, event: &Event) {
        if let Some(line) = plain::line(event) {
            // Without a terminal, an error here has no effect.
            let _ = self.bars.println(line);
        }
    }

    fn finish(&mut self) {
        for line in std::mem::take(&mut self.nodes).into_values() {
            line.bar.finish();
        }
        if let Some(bar) = self.status.take() {
            bar.finish_and_clear();
        }
    }
}

impl NodeLine {
    fn draw(&self) {
        let layers: Vec<_> = Layer::ALL
            .iter()
            .filter_map(|layer| {
                let green = self.layers.get(layer)?;
                Some(format!("{} {}", if *green { "✔" } else { "…" }, layer.label()))
            })
            .collect();
        self.bar.set_message(format!("{:<18} {}", self.step, layers.join("  ")));
    }
}
