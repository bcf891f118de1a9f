//! The `ClientHello`: read whole, within bounds, before the client uses anything that others need.

use pingora_core::protocols::l4::stream::Stream as TcpStream;
use rustls::server::Acceptor as Hellos;
use tokio::io::AsyncReadExt;

/// Bytes read first from an idle connection; more is allocated when something has arrived.
pub(super) const FIRST_BYTES: usize = 16;
/// Capacity for what follows.
const MORE_BYTES: usize = 2_048;
/// Bytes of a `ClientHello` with its records. Real ones have 300 to 2,000.
const HELLO_BYTES_MAX: usize = 16 << 10;

/// Reads until a client's `ClientHello` is whole, and puts it back in front of what follows. Anything
/// else is put back as well: the handshake tells the client why it fails. `None` if the client has
/// disconnected, or has sent more than a `ClientHello` may have.
pub(super) async fn read_hello(tcp: &mut TcpStream) -> Option<()> {
    let mut first = [0; FIRST_BYTES];
    let count = tcp.read(&mut first).await.ok()?;
    let mut hello = first.get(..count).filter(|it| !it.is_empty())?.to_vec();
    let mut hellos = Hellos::default();
    let mut looked_at = 0;
    while !is_whole(&mut hellos, hello.get(looked_at..).unwrap_or_default()) {
        looked_at = hello.len();
        if looked_at >= HELLO_BYTES_MAX {
            return None;
        }
        hello.reserve(MORE_BYTES);
        if tcp.read_buf(&mut hello).await.ok()? == 0 {
            return None;
        }
    }
    tcp.rewind(&hello);
    Some(())
}

/// Whether these bytes complete a `ClientHello`, or cannot be one.
fn is_whole(hellos: &mut Hellos, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        if hellos.read_tls(&mut bytes).is_err() {
            return true;
        }
        match hellos.accept() {
            Ok(None) => (),
            Ok(Some(_)) | Err(_) => return true,
        }
    }
    false
}
