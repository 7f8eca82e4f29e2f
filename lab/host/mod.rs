//! The machine the lab runs on: tools, memory, speed, and the runs that live on it.
