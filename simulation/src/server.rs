//! A real HTTP server on loopback.

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::{Api, Simulated};

/// A running server, which speaks HTTP/1.1 and, to clients that begin with it,
/// HTTP/2, without TLS.
///
/// Dropping it closes the port at once and lets what is being answered finish
/// in the background, as long as the runtime lives.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    counts: Arc<Counts>,
    /// Never sent: that it is dropped is the signal to stop.
    _stop: oneshot::Sender<Infallible>,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
}

impl Server {
    /// Listens on a free port of 127.0.0.1 and has `handler` answer every request.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O and its time enabled.
    pub async fn start<H, F, B>(handler: H) -> io::Result<Self>
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(accept(listener, handler, Arc::clone(&counts), stopped));
        Ok(Self {
            address,
            counts,
            _stop: stop,
        })
    }

    /// [Starts](Self::start) a server that answers as `api` does.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub async fn simulate<A: Api + Send + 'static>(api: &Simulated<A>) -> io::Result<Self> {
        let api = api.clone();
        Self::start(move |request| {
            let api = api.clone();
            async move { api.answer(request).await }
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as `http://127.0.0.1:<port>`, without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The connections accepted so far.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::Relaxed)
    }

    /// The requests received so far, answered or not.
    pub fn requests(&self) -> u64 {
        self.counts.requests.load(Ordering::Relaxed)
    }
}

/// Accepts until `stopped`, then waits for the connections to finish.
async fn accept<H, F, B>(
    listener: TcpListener,
    handler: H,
    counts: Arc<Counts>,
    mut stopped: oneshot::Receiver<Infallible>,
) where
    H: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            _ = &mut stopped => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: some will be closed shortly.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        counts.connections.fetch_add(1, Ordering::Relaxed);
        serve(stream, handler.clone(), Arc::clone(&counts), &connections);
    }
    drop(listener);
    connections.shutdown().await;
}

fn serve<H, F, B>(
    stream: TcpStream,
    handler: H,
    counts: Arc<Counts>,
    connections: &GracefulShutdown,
) where
    H: Fn(Request<Incoming>) -> F + Send + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    // Small answers must not wait for the acknowledgement of earlier ones.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        counts.requests.fetch_add(1, Ordering::Relaxed);
        let answer = handler(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .into_owned();
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        // A client that hangs up is no matter of the server's.
        let _ = connection.await;
    });
}
