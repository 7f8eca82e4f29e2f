//! How the reference node image is built, step by step, from sources and packages.
