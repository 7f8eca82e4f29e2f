//! What the tailnet's programs say of themselves.
#![allow(dead_code)]

#[path = "../lab/cluster/tailnet/client_status.rs"]
mod client_status;
#[path = "../lab/cluster/tailnet/control_api.rs"]
mod control_api;
#[path = "../lab/cluster/tailnet/gateway_log.rs"]
mod gateway_log;

/// In place of the tool's own, which has processes.
mod daemon {
    pub(super) fn tail(text: &str) -> String {
        text.lines().last().unwrap_or_default().to_owned()
    }
}

use client_status::{ClientStatus, PingResult, Preferences};

/// An answer of the client's local API, one of the control server's command line, or a log.
pub fn answers(data: &[u8]) {
    if let Ok(status) = serde_json::from_slice::<ClientStatus>(data) {
        let again = serde_json::to_vec(&status).expect("written");
        assert_eq!(serde_json::from_slice::<ClientStatus>(&again).expect("read again"), status);
        let _ = status.is_running();
    }
    let _ = serde_json::from_slice::<Preferences>(data);
    if let Ok(pong) = serde_json::from_slice::<PingResult>(data).map(PingResult::pong) {
        let _ = pong.map(|pong| pong.path.to_string());
    }
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for node in control_api::nodes(text).unwrap_or_default() {
        let address = node.address();
        assert!(address.is_some() || node.addresses.is_empty(), "an address was lost");
        let _ = node.has_tag("tag:gateway");
    }
    let _ = control_api::error_text(text);
    if let Some(line) = gateway_log::telling_line(text) {
        assert!(text.contains(line) && !line.contains('\n'), "{line:?} is no line of the log");
    }
}
