//! The machine API and its documents: secrets bundle, config generation and patching, API client.
