//! The connections: how many there may be, how long their clients may take, and which of them is
//! closed for a new one.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs,
    io::{self, ErrorKind},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use axum::Router;
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulConnection, GracefulShutdown},
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
    time,
};
use tokio_io_timeout::TimeoutStream;

/// How long the head of a request may take to arrive, counted from the connection's begin or the
/// response before: an idle connection is closed, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the head: cookies of all servers on this machine are sent to each of them.
const MAX_HEAD: usize = 64 << 10;
/// How long a client may take nothing of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections, at most.
const MAX_CONNECTIONS: usize = 256;
/// Connections of one address, at most. A browser opens six. All users behind a tunnel or a proxy
/// have one address.
const MAX_OF_ADDRESS: usize = 64;
/// The wait after the system could not accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until `stop` is ready, then ends once their responses are sent.
pub async fn serve(listener: TcpListener, app: Router, stop: impl Future<Output = ()>) {
    let connections = Arc::new(Connections::new(most()));
    let graceful = GracefulShutdown::new();
    let (mut stop, mut is_warned) = (pin!(stop), false);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (entry, closed) = connections.enter(peer.ip());
                let connection = graceful.watch(connection(stream, app.clone(), entry));
                tokio::spawn(async {
                    tokio::select! {
                        _ = connection => {} // an error is the client's
                        _ = closed => {}
                    }
                });
            }
            Err(e) if e.kind() == ErrorKind::ConnectionAborted => {} // the client has gone
            Err(e) => {
                if !std::mem::replace(&mut is_warned, true) {
                    log::warn!("{}", cannot_accept(&e));
                }
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    graceful.shutdown().await;
}

fn cannot_accept(e: &io::Error) -> String {
    format!(
        "cannot accept a connection: {e}; trying again (`ulimit -n` shows how many files may \
        be open)"
    )
}

/// Connections that leave half of the remaining files to the rest of the program.
fn most() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) as usize;
    let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    (limit.saturating_sub(open) / 2).clamp(1, MAX_CONNECTIONS)
}

/// One connection, to its end.
fn connection(stream: TcpStream, app: Router, entry: Entry) -> impl GracefulConnection {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE_TIMEOUT));
    let (entry, app) = (Arc::new(entry), TowerToHyperService::new(app));
    let answer = service_fn(move |request| {
        let (entry, answer) = (entry.clone(), app.call(request));
        async move {
            entry.set_answering(true);
            let answer = answer.await;
            entry.set_answering(false);
            answer
        }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Box::pin(stream)), answer)
}

/// All connections.
struct Connections {
    most: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    /// The number of the next one.
    next: u64,
    by_number: HashMap<u64, Connection>,
}

struct Connection {
    address: IpAddr,
    /// When the client connected, or got its last response.
    since: Instant,
    /// Whether a response is being made.
    answering: bool,
    /// Dropping it closes the connection.
    _close: oneshot::Sender<Infallible>,
}

/// The place of a connection among all; dropping it frees the place.
struct Entry {
    number: u64,
    connections: Arc<Connections>,
}

impl Connections {
    fn new(most: usize) -> Self {
        Self { most, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Adds a connection, and closes another one where there are too many. The new one is never
    /// refused, so that nobody can lock others out. Its receiver tells when it is closed itself.
    fn enter(self: &Arc<Self>, peer: IpAddr) -> (Entry, oneshot::Receiver<Infallible>) {
        let address = network(peer);
        let (close, closed) = oneshot::channel();
        let mut open = self.lock();
        if let Some(number) = open.to_close(address, self.most) {
            open.by_number.remove(&number);
        }
        let number = open.next;
        open.next += 1;
        let connection =
            Connection { address, since: Instant::now(), answering: false, _close: close };
        open.by_number.insert(number, connection);
        (Entry { number, connections: self.clone() }, closed)
    }
}

impl Open {
    /// The connection that has to be closed for one from `address`: where that one has too many,
    /// of its own, else where there are too many in all, of the address with the most. It is the
    /// one that has waited longest for its client, or, if all are being answered, the oldest.
    fn to_close(&self, address: IpAddr, most: usize) -> Option<u64> {
        let count = |of: IpAddr| self.by_number.values().filter(|c| c.address == of).count();
        let crowded = if count(address) >= most.min(MAX_OF_ADDRESS) {
            address
        } else if self.by_number.len() >= most {
            self.by_number.values().map(|c| c.address).max_by_key(|&of| count(of))?
        } else {
            return None;
        };
        let candidates = self.by_number.iter().filter(|(_, c)| c.address == crowded);
        candidates.min_by_key(|(_, c)| (c.answering, c.since)).map(|(&number, _)| number)
    }
}

impl Entry {
    fn set_answering(&self, answering: bool) {
        if let Some(connection) = self.connections.lock().by_number.get_mut(&self.number) {
            (connection.answering, connection.since) = (answering, Instant::now());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.lock().by_number.remove(&self.number);
    }
}

/// What counts as one address: this machine, which has many, and a network of IPv6, which one
/// machine may fill.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        ip if ip.is_loopback() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_connection_that_waits_longest_is_closed_for_a_new_one() {
        let connections = Arc::new(Connections::new(3));
        let enter = || connections.enter(ip("10.0.0.1"));
        let [mut a, mut b, mut c] = [(); 3].map(|()| enter());
        a.0.set_answering(true);
        let mut d = enter();
        let is_closed = |closed: &mut oneshot::Receiver<Infallible>| {
            closed.try_recv() == Err(oneshot::error::TryRecvError::Closed)
        };
        assert_eq!(
            [&mut a, &mut b, &mut c, &mut d].map(|(_, x)| is_closed(x)),
            [false, true, false, false]
        );
        // What has just been answered waits for the shortest time.
        a.0.set_answering(false);
        let e = enter();
        assert_eq!([&mut a, &mut c, &mut d].map(|(_, x)| is_closed(x)), [false, true, false]);
        // Nothing is refused, even if all are being answered.
        for (entry, _) in [&a, &d, &e] {
            entry.set_answering(true);
        }
        let _f = enter();
        assert!(is_closed(&mut a.1));
        assert_eq!(connections.lock().by_number.len(), 3);
        drop((a, b, c, d)); // of these only d is still open
        assert_eq!(connections.lock().by_number.len(), 2);
    }

    #[test]
    fn no_address_takes_the_places_of_others() {
        let connections = Arc::new(Connections::new(MAX_CONNECTIONS));
        let count = |address: &str| {
            let address = network(ip(address));
            connections.lock().by_number.values().filter(|c| c.address == address).count()
        };
        let _owner = connections.enter(ip("127.0.0.1"));
        let _one: Vec<_> = (0..500).map(|_| connections.enter(ip("10.0.0.1"))).collect();
        assert_eq!((count("10.0.0.1"), count("127.0.0.1")), (MAX_OF_ADDRESS, 1));
        let many = (0..500).map(|i| connections.enter(ip(&format!("10.0.{}.2", i % 50))));
        let _many: Vec<_> = many.collect();
        assert_eq!(count("127.0.0.1"), 1);
        assert_eq!(connections.lock().by_number.len(), MAX_CONNECTIONS);
    }

    #[test]
    fn one_machine_is_one_address() {
        for (a, b, same) in [
            ("127.0.0.1", "127.7.7.7", true),
            ("127.0.0.1", "::1", true),
            ("::ffff:10.0.0.1", "10.0.0.1", true),
            ("10.0.0.1", "10.0.0.2", false),
            ("2001:db8::1", "2001:db8::2", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(network(ip(a)) == network(ip(b)), same, "{a} {b}");
        }
    }
}
