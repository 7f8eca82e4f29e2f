//! The gateway's ExtensionServiceConfig document, its auth key, and the advertised routes.

mod auth_key;
mod control_access;
mod routes;
mod service_config;

pub use auth_key::{AuthKey, AuthKeyError};
pub use control_access::ControlAccess;
pub use routes::{Needed, RouteProblem, check_routes, overlap, parse_routes};
pub use service_config::{ConfigFile, ExtensionServiceConfig, NO_LOGS, ServiceConfigError};
