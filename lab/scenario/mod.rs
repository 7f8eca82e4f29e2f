//! Scenario files, their checks, and the verdict.
