//! Consumers of the event stream: terminal view, JSON lines, summary, failure bundle.
