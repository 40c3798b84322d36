//! A server on a real socket that does with each request what a rule says, and keeps a log.
//!
//! It writes its HTTP/1.1 itself, byte by byte, and its HTTP/2 by frames: no server library would
//! misbehave enough.

mod http1;
mod http2;
mod reply;

pub(crate) use reply::{Content, Reads, Reply, Then};

use crate::content::Digest;
use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::{AbortHandle, JoinSet},
};

/// Of each socket's buffers; the system doubles it. So it is seen soon that nobody reads or writes.
pub(crate) const SOCKET_BUFFER: u32 = 32 * 1024;

/// The header field by which requests call themselves.
pub(crate) const ID: &str = "x-id";

/// A request, as rules see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// What it calls itself.
    pub(crate) id: usize,
    /// How many of that name came before.
    pub(crate) before: usize,
}

/// What the server has seen of one attempt.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: usize,
    pub(crate) arrived: Instant,
    pub(crate) received: Received,
}

/// What it has seen of its body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Received {
    /// Not all; or not yet.
    Part,
    /// All, up to an end that says that it is one.
    Whole(Digest),
}

type Rule = dyn Fn(Asked) -> Reply + Send + Sync;

/// A running server; it is gone when this is dropped.
pub(crate) struct Server {
    site: Arc<Site>,
    address: SocketAddr,
    accepting: AbortHandle,
}

/// What outlives connections, and the server's own death.
pub(crate) struct Site {
    version: http::Version,
    rule: Box<Rule>,
    log: Mutex<Log>,
    /// The bytes of endless bodies that were taken.
    written: AtomicU64,
}

#[derive(Default)]
struct Log {
    sent: Vec<Sent>,
    of: HashMap<usize, usize>,
    /// Until when the last refusals have asked to stay away.
    closed_until: Option<Instant>,
    /// By how much attempts came too early.
    early: Vec<Duration>,
}

impl Server {
    pub(crate) fn start(
        version: http::Version,
        rule: impl Fn(Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let site = Arc::new(Site {
            version,
            rule: Box::new(rule),
            log: Mutex::default(),
            written: AtomicU64::new(0),
        });
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::start_at(anywhere, site).unwrap()
    }

    fn start_at(address: SocketAddr, site: Arc<Site>) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        // Those of its connections have them from here.
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        socket.bind(address)?;
        let listener = socket.listen(1_024)?;
        let address = listener.local_addr()?;
        let served = site.clone();
        let accepting = tokio::spawn(async move {
            // Dropped with the task, and every connection with it.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let site = served.clone();
                connections.spawn(async move { site.serve(stream).await });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self {
            site,
            address,
            accepting: accepting.abort_handle(),
        })
    }

    /// Closes the port and breaks all connections.
    pub(crate) async fn die(&self) -> Dead {
        self.accepting.abort();
        while !self.accepting.is_finished() {
            tokio::task::yield_now().await;
        }
        Dead {
            site: self.site.clone(),
            address: self.address,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn log(&self) -> Vec<Sent> {
        self.site.log.lock().unwrap().sent.clone()
    }

    /// By how much attempts came too early.
    pub(crate) fn early(&self) -> Vec<Duration> {
        self.site.log.lock().unwrap().early.clone()
    }

    /// What was asked for so far no longer counts.
    pub(crate) fn forget(&self) {
        self.site.log.lock().unwrap().closed_until = None;
    }

    /// The bytes of endless bodies that were taken.
    pub(crate) fn written(&self) -> u64 {
        self.site.written.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A server that has died, and can come back where it was.
pub(crate) struct Dead {
    site: Arc<Site>,
    address: SocketAddr,
}

impl Dead {
    pub(crate) fn revive(self) -> Server {
        Server::start_at(self.address, self.site).unwrap()
    }
}

impl Site {
    async fn serve(self: Arc<Self>, stream: TcpStream) {
        // Small answers must not wait for the acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
        // A client that hangs up is no matter of the server's.
        let _ = if self.version == http::Version::HTTP_2 {
            http2::serve(&self, stream).await
        } else {
            http1::serve(&self, stream).await
        };
    }

    /// The head of a request has come: its place in the log, and what to do with it.
    fn arrive(&self, id: usize) -> (usize, Reply) {
        let arrived = Instant::now();
        let mut log = self.log.lock().unwrap();
        let closed_for = log.closed_until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(arrived)
        });
        if !closed_for.is_zero() {
            log.early.push(closed_for);
        }
        let place = log.sent.len();
        log.sent.push(Sent {
            id,
            arrived,
            received: Received::Part,
        });
        let count = log.of.entry(id).or_default();
        let before = *count;
        *count += 1;
        drop(log);
        (place, (self.rule)(Asked { id, before }))
    }

    /// The body has come to its end.
    fn received(&self, place: usize, digest: Digest) {
        self.log.lock().unwrap().sent[place].received = Received::Whole(digest);
    }

    /// An answer is about to be sent: from here on nothing may come for as long as it asks.
    fn answers(&self, reply: &Reply) {
        let until = Instant::now() + reply.asks;
        let mut log = self.log.lock().unwrap();
        log.closed_until = log.closed_until.max(Some(until));
    }

    fn wrote(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
