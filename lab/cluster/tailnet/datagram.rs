//! A datagram and its response through a SOCKS5 proxy (RFC 1928, UDP ASSOCIATE).

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use fast_socks5::{SocksError, client::Socks5Datagram};
use lab_model::words::chain;
use tokio::net::TcpStream;

/// The maximum size of a response in bytes.
const LARGEST: usize = 2048;

/// Sends `payload` to `target` through `proxy`. Returns the response, or the reason if none arrives within
/// `patience`.
pub(super) async fn exchange(
    proxy: SocketAddr,
    target: SocketAddr,
    payload: &[u8],
    patience: Duration,
) -> Result<Vec<u8>, String> {
    let exchange = async {
        // The association ends with this connection.
        let control = TcpStream::connect(proxy).await?;
        let socket = Socks5Datagram::bind(control, (Ipv4Addr::LOCALHOST, 0)).await?;
        socket.send_to(payload, target).await?;
        let mut answer = vec![0; LARGEST];
        let (length, _) = socket.recv_from(&mut answer).await?;
        answer.truncate(length);
        Ok::<_, SocksError>(answer)
    };
    match tokio::time::timeout(patience, exchange).await {
        Ok(answer) => answer.map_err(|error| chain(&error)),
        Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
    }
}
