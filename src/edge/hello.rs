//! What a client says first: read whole, within bounds, before it takes anything that others need.

use pingora_core::protocols::l4::stream::Stream as TcpStream;
use rustls::server::Acceptor as Hellos;
use tokio::io::AsyncReadExt;

/// Room for what a silent connection says first; the rest is made when something has come.
pub(super) const FIRST_BYTES: usize = 16;
/// Room for what follows at once.
const MORE_BYTES: usize = 2_048;
/// Bytes of a `ClientHello` with its records. Real ones have 300 to 2,000.
const HELLO_BYTES_MAX: usize = 16 << 10;

/// Reads until a client's `ClientHello` is whole, and puts it back in front of what follows. Whatever
/// is none is put back as well: the handshake says to the client why it ends. Nothing if the client
/// has gone, or says more than that without coming to an end.
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

/// Whether these bytes end a `ClientHello`, or cannot become one.
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
